//! Where Debian's packages come from: whatever apt is configured with on this machine.

use std::process::Command;

use crate::Result;

/// Suites of a release, one an archive may be configured for.
pub struct Archive {
    /// The release's name.
    pub suite: String,
    /// Address and suite.
    indexes: Vec<(String, String)>,
}

impl Archive {
    /// The archives of this machine's own release.
    pub fn of_this_machine() -> Result<Self> {
        let release = std::fs::read_to_string("/etc/os-release")?;
        let field = |name: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_matches('"').to_owned())
        };
        let suite = field("VERSION_CODENAME=").ok_or("a release without a name")?;
        let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
        let listed =
            said("apt-get", &["indextargets", "--format", format, "Identifier: Packages"])?;
        let mut indexes: Vec<(String, String)> = listed
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (address, suite) = (words.next()?, words.next()?);
                (words.next()? == "main").then(|| (address.to_owned(), suite.to_owned()))
            })
            .collect();
        indexes.sort();
        indexes.dedup();
        let archive = Self { suite, indexes };
        if archive.release().is_empty() {
            return Err(format!("apt knows no archive of Debian `{}`", archive.suite).into());
        }
        Ok(archive)
    }

    /// The release as it came out or was last revised, as lines of a sources list.
    pub fn release(&self) -> Vec<String> {
        self.lines(&[""])
    }

    /// The release with its security and other updates.
    pub fn all(&self) -> Vec<String> {
        self.lines(&["", "-updates", "-security"])
    }

    fn lines(&self, endings: &[&str]) -> Vec<String> {
        let wanted: Vec<String> =
            endings.iter().map(|ending| format!("{}{ending}", self.suite)).collect();
        let line = |(address, suite): &(String, String)| format!("deb {address} {suite} main");
        self.indexes.iter().filter(|(_, suite)| wanted.contains(suite)).map(line).collect()
    }

    /// How apt reaches them: proxies and the like, as a file of its configuration. Packages that
    /// are fetched are kept.
    pub fn options(&self) -> Result<String> {
        let mut options = String::from("APT::Keep-Downloaded-Packages \"1\";\n");
        for line in said("apt-config", &["dump"])?.lines() {
            if line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets") {
                options.push_str(line);
                options.push('\n');
            }
        }
        Ok(options)
    }
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("running {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
