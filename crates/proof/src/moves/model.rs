//! What a home may hold: plain arrays, and no word of packs, maps or records.

use crate::storage::oracle::{BLOCK, Oracle};

use super::toy::{APPS_FILE, COMPOSED, DISK_LEN, FILE_LEN, FILES, path};

/// A disk as a guest sees it.
pub type Disk = Vec<u8>;

/// What the desktop's own layers say of a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Says {
    /// Nothing: it is what the image has.
    Nothing,
    /// It is gone.
    Gone,
    /// It is this.
    This(Vec<u8>),
}

/// A session that was begun.
#[derive(Clone)]
pub struct Sitting {
    number: u64,
    /// The version of the image that it stands on.
    image: usize,
    /// The disk that it began with.
    base: Disk,
    /// What its disk may hold.
    pub disk: Oracle,
}

/// One state of everything durable.
#[derive(Clone)]
pub struct State {
    /// The versions of the image, oldest first.
    pub images: Vec<Disk>,
    /// What the apps layer has of its file, if there is one.
    apps: Option<Vec<u8>>,
    layers: [Says; FILES],
    /// Number of the next session, at least.
    next: u64,
    /// The session under way.
    pub session: Option<Sitting>,
    /// The edit of the image under way: what its disk may hold.
    pub edit: Option<Oracle>,
}

fn file(disk: &[u8], number: usize) -> Option<&[u8]> {
    let bytes = &disk[number * FILE_LEN..(number + 1) * FILE_LEN];
    bytes[..BLOCK].iter().any(|byte| *byte != 0).then_some(bytes)
}

/// The files of a disk that differ from another's.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    (0..FILES).filter(|&number| file(before, number) != file(after, number)).collect()
}

/// What is kept of a disk as a version of an image: files that are not there are zeroes.
pub fn canonical(disk: &[u8]) -> Disk {
    let mut disk = disk.to_vec();
    for number in 0..FILES {
        if file(&disk, number).is_none() {
            disk[number * FILE_LEN..(number + 1) * FILE_LEN].fill(0);
        }
    }
    disk
}

impl State {
    /// A desktop that nobody has used.
    pub fn new(image: Disk, apps: Option<Vec<u8>>) -> Self {
        let layers = [const { Says::Nothing }; FILES];
        Self { images: vec![image], apps, layers, next: 1, session: None, edit: None }
    }

    /// A version of the image with what is delivered.
    fn delivered(&self, image: usize) -> Disk {
        let mut disk = self.images[image].clone();
        if let Some(bytes) = &self.apps {
            disk[APPS_FILE * FILE_LEN..][..FILE_LEN].copy_from_slice(bytes);
        }
        disk
    }

    /// The disk that a new session begins with.
    pub fn composed(&self) -> Disk {
        let mut disk = self.delivered(self.images.len() - 1);
        for (number, says) in self.layers.iter().enumerate() {
            let place = &mut disk[number * FILE_LEN..(number + 1) * FILE_LEN];
            match says {
                Says::Nothing => {}
                Says::Gone => place.fill(0),
                Says::This(bytes) => place.copy_from_slice(bytes),
            }
        }
        disk[DISK_LEN - BLOCK..].fill(COMPOSED);
        disk
    }

    /// With a session of that number that has just begun.
    pub fn begun(&self, number: u64) -> Self {
        let (base, image) = (self.composed(), self.images.len() - 1);
        let disk = Oracle::new(base.clone());
        let session = Some(Sitting { number, image, base, disk });
        Self { session, next: number + 1, ..self.clone() }
    }

    /// Without a session.
    pub fn discarded(&self) -> Self {
        Self { session: None, ..self.clone() }
    }

    /// With a session filed that ended like this.
    pub fn filed(&self) -> Self {
        let Some(session) = &self.session else { return self.clone() };
        let mut next = self.discarded();
        let (end, below) = (session.disk.content(), self.delivered(session.image));
        for number in changed(&session.base, end) {
            next.layers[number] = match file(end, number) {
                same if same == file(&below, number) => Says::Nothing,
                Some(bytes) => Says::This(bytes.to_vec()),
                None => Says::Gone,
            };
        }
        next
    }

    /// With files back to what is delivered.
    pub fn reset(&self, numbers: &[usize]) -> Self {
        let mut next = self.clone();
        numbers.iter().for_each(|&number| next.layers[number] = Says::Nothing);
        next
    }

    /// With nobody at the image.
    pub fn without_edit(&self) -> Self {
        Self { edit: None, ..self.clone() }
    }

    /// With the edit adopted.
    pub fn updated(&self) -> Self {
        let mut next = self.without_edit();
        next.images.extend(self.edit.iter().map(|edit| canonical(edit.content())));
        next
    }

    /// Paths that the session has changed so far, sorted.
    pub fn changes(&self) -> Vec<String> {
        let changed = self.session.as_ref().map(|one| changed(&one.base, one.disk.content()));
        let mut paths: Vec<String> =
            changed.into_iter().flatten().map(|number| format!("/{}", path(number))).collect();
        paths.sort();
        paths
    }

    /// Why this state cannot be the one whose session, or whose next session, has that number and
    /// that disk.
    pub fn refuses(&self, number: u64, found: &[u8]) -> Option<String> {
        match &self.session {
            Some(session) if session.number != number => Some(format!("session {number}")),
            Some(session) => session.disk.check(found).err().map(|wrong| wrong.to_string()),
            None if number < self.next => Some(format!("session {number} again")),
            None if self.composed() == found => None,
            None => Some("a new session has another disk".into()),
        }
    }

    /// Takes what was found for what is there.
    pub fn settle(&mut self, number: u64, found: &[u8]) {
        if self.session.is_none() {
            *self = self.begun(number);
        }
        if let Some(session) = &mut self.session {
            session.disk = Oracle::new(found.to_vec());
        }
    }
}
