//! What a Debian image is made from.

use serde::{Deserialize, Serialize};

use super::error::CreateError;

/// Least size of a disk that the factory recipe fits into, with room to live.
const SIZE_MIB_MIN: u64 = 1024;
/// Sectors of 512 bytes in the boot partition and tables leave this much of 1 TiB to be said: far
/// above any desktop's disk, far below what the table can express.
const SIZE_MIB_MAX: u64 = 16 << 20;

/// A Debian release that images can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// The name that archives use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// How an account is opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Password {
    /// Not by a password.
    Locked,
    /// By this word; it is hashed in the image.
    Plain(String),
    /// By the word behind this crypt(5) hash.
    Hashed(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Locked => "Locked",
            Self::Plain(_) => "Plain(..)",
            Self::Hashed(_) => "Hashed(..)",
        })
    }
}

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// How it is opened.
    pub password: Password,
    /// Further groups.
    pub groups: Vec<String>,
}

/// Which drivers the image starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// Debian's kernel for virtual machines, and of its drivers at first only those for virtio and
    /// AHCI disks: small, and quick to start.
    Cloud,
    /// Debian's general kernel with every driver that a disk might need.
    General,
}

/// What an image is made from. The same recipe over the same archive makes the same image, but for
/// the salt of a plain password and the archive's own changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The name that the image's UUIDs are derived from: versions of one image share it.
    pub name: String,
    /// Release.
    pub suite: Suite,
    /// Archives, as URIs or lines of a sources list; empty means Debian's own.
    pub mirrors: Vec<String>,
    /// Components of those archives.
    pub components: Vec<String>,
    /// Kernel.
    pub kernel: Kernel,
    /// Further packages.
    pub packages: Vec<String>,
    /// Size of the disk.
    pub size_mib: u64,
    /// Host name, until a desktop has its own.
    pub hostname: String,
    /// The superuser's password.
    pub root_password: Password,
    /// People.
    pub accounts: Vec<Account>,
    /// Shell commands that run last, with the image's tree as `$1`, as mmdebstrap's hooks do.
    pub customize: Vec<String>,
    /// Options for apt while the image is made.
    pub apt_options: Vec<String>,
    /// Seconds since 1970: no file of the image is younger, and the file system was made then.
    pub made_at: u64,
}

impl Recipe {
    /// A small system with a console and a network, no accounts, and the root account locked.
    pub fn new(name: &str, suite: Suite, made_at: u64) -> Self {
        Self {
            name: name.to_owned(),
            suite,
            mirrors: Vec::new(),
            components: vec!["main".to_owned()],
            kernel: Kernel::Cloud,
            packages: Vec::new(),
            size_mib: 2048,
            hostname: "debian".to_owned(),
            root_password: Password::Locked,
            accounts: Vec::new(),
            customize: Vec::new(),
            apt_options: Vec::new(),
            made_at,
        }
    }

    /// Refuses what would fail late, or would be read as something else by a shell.
    pub(super) fn check(&self) -> Result<(), CreateError> {
        if !(SIZE_MIB_MIN..=SIZE_MIB_MAX).contains(&self.size_mib) {
            let expected = "1024 to 16777216 MiB";
            return Err(refuse("size", &self.size_mib.to_string(), expected));
        }
        check_name("host name", &self.hostname)?;
        for account in &self.accounts {
            check_name("account", &account.name)?;
            account.groups.iter().try_for_each(|group| check_name("group", group))?;
            check_password(&account.password)?;
        }
        check_password(&self.root_password)?;
        for package in &self.packages {
            let plain = |c: char| c.is_ascii_alphanumeric() || "+-.:=~/_".contains(c);
            if package.is_empty() || package.starts_with('-') || !package.chars().all(plain) {
                return Err(refuse("package", package, "a package's name"));
            }
        }
        Ok(())
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), CreateError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if starts && name.len() <= 32 && name.chars().all(plain) {
        return Ok(());
    }
    Err(refuse(what, name, "at most 32 of a-z, 0-9, - and _, beginning with a letter"))
}

/// chpasswd reads lines.
fn check_password(password: &Password) -> Result<(), CreateError> {
    let text = match password {
        Password::Locked => return Ok(()),
        Password::Plain(text) | Password::Hashed(text) => text,
    };
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(refuse("password", "(not shown)", "one line that is not empty"));
    }
    Ok(())
}

fn refuse(what: &'static str, found: &str, expected: &'static str) -> CreateError {
    CreateError::Recipe { what, found: found.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_that_can_not_work_are_refused() {
        let good = Recipe::new("test", Suite::Bookworm, 0);
        good.check().unwrap();
        let bad: [fn(&mut Recipe); 5] = [
            |recipe| recipe.size_mib = 100,
            |recipe| recipe.hostname = "a b".into(),
            |recipe| recipe.packages = vec!["--simulate".into()],
            |recipe| recipe.packages = vec!["a,b".into()],
            |recipe| recipe.root_password = Password::Plain("a\nb:c".into()),
        ];
        for change in bad {
            let mut recipe = good.clone();
            change(&mut recipe);
            assert!(recipe.check().is_err(), "{recipe:?}");
        }
    }
}
