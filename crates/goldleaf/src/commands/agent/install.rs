//! `goldleaf agent install`

use std::path::{Path, PathBuf};

use crate::cli::App;
use crate::failure::Failure;

const UNIT: &str = "goldleaf-agent.service";

/// Write a service of the user's systemd that runs the agent
///
/// It starts when the user logs in. What is there of an earlier installation is replaced.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only print the service
    #[arg(long)]
    dry_run: bool,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = std::path::absolute(app.home_path()?)
        .map_err(|error| Failure::io("finding the current directory", &error))?;
    let program =
        std::env::current_exe().map_err(|error| Failure::io("finding this program", &error))?;
    let (unit, path) = (unit(&program, &home)?, directory()?.join(UNIT));
    if !args.dry_run {
        let failed = |error| Failure::io(format!("writing {}", path.display()), &error);
        std::fs::create_dir_all(directory()?).map_err(failed)?;
        std::fs::write(&path, &unit).map_err(failed)?;
    }
    let value = serde_json::json!({ "path": path, "unit": unit, "written": !args.dry_run });
    app.answer(&value, || match args.dry_run {
        true => unit.trim_end().into(),
        false => format!(
            "{} is written; it runs from the next login on, or at once by\n\
             systemctl --user daemon-reload && systemctl --user enable --now {UNIT}",
            path.display()
        ),
    })
}

/// Where systemd looks for a user's services (systemd.unit(5)).
fn directory() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let config = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
    let config = config.ok_or_else(|| Failure::environment("the variable HOME is not set"))?;
    Ok(config.join("systemd/user"))
}

fn unit(program: &Path, home: &Path) -> Result<String, Failure> {
    Ok(format!(
        "[Unit]\n\
         Description=Goldleaf brings new versions\n\
         \n\
         [Service]\n\
         ExecStart={} --home {} agent run\n\
         Restart=on-failure\n\
         RestartSec=60\n\
         Nice=10\n\
         IOSchedulingClass=idle\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        quoted(program)?,
        quoted(home)?
    ))
}

/// A word of a command line as systemd reads it (systemd.service(5), "Command lines"; `%` and `$`
/// begin what it puts in).
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(|c: char| c.is_control()));
    let text =
        text.ok_or_else(|| Failure::user(format!("systemd cannot be told of {}", path.display())))?;
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '%' | '$' => quoted.extend([letter, letter]),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_reach_systemd_as_they_are() {
        let quoted = |path: &str| quoted(Path::new(path)).ok();
        assert_eq!(quoted("/a b/c").as_deref(), Some("\"/a b/c\""));
        assert_eq!(quoted("/50%/$x").as_deref(), Some("\"/50%%/$$x\""));
        assert_eq!(quoted("/a\"\\b").as_deref(), Some("\"/a\\\"\\\\b\""));
        assert_eq!(quoted("/a\nExecStart=/bin/evil"), None);
    }
}
