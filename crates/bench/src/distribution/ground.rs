//! The images, imported: free blocks, the journal and the like read as zeroes, as in all that is
//! published.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use goldleaf_host::Silent;
use goldleaf_image::{ImageVersion, ImportOptions, Layout, import, layout};
use goldleaf_player::Home;
use goldleaf_player::desktop::volumes;
use serde::de::DeserializeOwned;

use super::pair::{self, Kind};
use crate::Result;
use crate::ground::open_home;

/// The first version.
pub const V1: &str = "v1";
/// The next one, made in place.
pub const V2: &str = "v2";
/// The next one, made anew.
pub const V2R: &str = "v2r";
/// All of them.
pub const PAIR: [&str; 3] = [V1, V2, V2R];

/// A home with the images.
pub struct Ground {
    /// The home.
    pub home: Home,
    /// Where everything is.
    pub place: PathBuf,
}

impl Ground {
    /// Makes and imports what is missing.
    pub fn prepare(place: &Path, kind: Kind) -> Result<Self> {
        pair::prepare(place, kind)?;
        let ground = Self::open(place)?;
        for name in PAIR {
            ground.import(name, &ground.place.join(format!("{name}.raw")), None)?;
        }
        Ok(ground)
    }

    /// Opens what is there.
    pub fn open(place: &Path) -> Result<Self> {
        Ok(Self { home: open_home(&place.join("home"))?, place: place.into() })
    }

    /// Imports a disk, unless that was done before.
    pub fn import(&self, name: &str, disk: &Path, grow_to: Option<u64>) -> Result<()> {
        let images = self.home.images()?;
        if images.record(name).is_ok() {
            return Ok(());
        }
        eprintln!("importing {name}");
        let options = ImportOptions { name: name.into(), grow_to, cause: None };
        import(&images, &self.home.launcher, self.home.clock.as_ref(), disk, &options, &Silent)?;
        Ok(())
    }

    /// An image, and where it keeps what.
    pub fn image(&self, name: &str) -> Result<(ImageVersion, Layout)> {
        let image = self.home.images()?.open(name, None)?;
        let volumes = volumes(&image)?;
        let layout = layout(&self.home.launcher, &image.map, &image.files, &volumes, &Silent)?;
        Ok((image, layout))
    }

    /// An image's disk as a file in canonical form, as other people's programs take it.
    pub fn raw(&self, name: &str) -> PathBuf {
        self.place.join("home/images").join(name).join("0001.data")
    }

    /// An empty directory.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.place.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Runs a part of this program in a process of its own, and takes what it says.
    pub fn part<T: DeserializeOwned>(&self, task: &str, args: &[&OsStr]) -> Result<T> {
        let output = Command::new(std::env::current_exe()?)
            .args(["distribution", "child", task])
            .arg(&self.place)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the part `{task}` failed").into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
