//! `goldleaf image create`

use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use goldleaf_host::{Dir, Progress};
use goldleaf_image::create::{Account, Kernel, Password, Recipe, Step, Suite, create_debian};
use goldleaf_image::{ImageError, ImportOptions, Imported, check_name, import};
use goldleaf_player::Home;

use crate::cli::App;
use crate::failure::Failure;
use crate::output::parse_size;
use crate::progress::Console;

/// Make a golden image from nothing: a small Debian
///
/// Installs Debian's packages with mmdebstrap, without root and without mounting anything.
/// The superuser has no password; `--user` makes an account to log in with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release
    #[arg(long, value_name = "SUITE")]
    debian: DebianSuite,
    /// Name of the new image
    #[arg(long)]
    name: String,
    /// Size of its disk
    #[arg(long, default_value = "8G", value_parser = parse_size)]
    size: u64,
    /// A further package to install; can be given several times
    #[arg(long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Make an account of this name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Read the account's password from standard input, one line
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// The archive to install from, as a URL [default: Debian's own]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Which drivers the kernel has
    #[arg(long, default_value = "cloud")]
    kernel: KernelChoice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DebianSuite {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelChoice {
    /// Those of virtual machines: small, and quick to start
    Cloud,
    /// All that Debian has
    General,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    check_free(&home, &args.name)?;
    let recipe = recipe(&home, args)?;
    let console = app.console();
    let scratch = Scratch::new(&home, &args.name)?;
    let imported = make(&home, &recipe, &scratch.path, &console)?;
    drop(scratch);
    console.finish();
    app.answer(&imported, || super::import::describe(&imported))
}

/// A name that is taken is said before the long part.
fn check_free(home: &Home, name: &str) -> Result<(), Failure> {
    check_name(name)?;
    match home.images()?.record(name) {
        Err(ImageError::Unknown(_)) => Ok(()),
        Ok(_) => Err(ImageError::Exists(name.into()).into()),
        Err(error) => Err(error.into()),
    }
}

fn recipe(home: &Home, args: &Args) -> Result<Recipe, Failure> {
    let suite = match args.debian {
        DebianSuite::Bookworm => Suite::Bookworm,
        DebianSuite::Trixie => Suite::Trixie,
    };
    let mut recipe = Recipe::new(&args.name, suite, home.now_unix_secs());
    recipe.size_mib = args.size >> 20;
    recipe.packages = args.packages.clone();
    recipe.mirrors = args.mirror.iter().cloned().collect();
    recipe.kernel = match args.kernel {
        KernelChoice::Cloud => Kernel::Cloud,
        KernelChoice::General => Kernel::General,
    };
    if let Some(name) = &args.user {
        let password = if args.password_stdin { read_password()? } else { Password::Locked };
        recipe.accounts.push(Account { name: name.clone(), password, groups: Vec::new() });
    }
    Ok(recipe)
}

fn read_password() -> Result<Password, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::io("reading the password", &error))?;
    Ok(Password::Plain(line.trim_end_matches(['\r', '\n']).into()))
}

fn make(
    home: &Home,
    recipe: &Recipe,
    scratch: &Path,
    console: &Console,
) -> Result<Imported, Failure> {
    // The registry tells formats by the ending of the name.
    let disk = scratch.join("disk.raw");
    create_debian(recipe, scratch, &disk, &mut |step| {
        let what = match step {
            Step::Install => "fetching and installing packages",
            Step::Filesystem => "making the file system",
            Step::BootLoader => "writing the boot loader",
            _ => "making the image",
        };
        console.at(what, 0, 0);
    })?;
    let cause = Some(format!("created: Debian {}", recipe.suite.name()));
    let options = ImportOptions { name: recipe.name.clone(), grow_to: None, cause };
    let clock = home.clock.as_ref();
    Ok(import(&home.images()?, &home.launcher, clock, &disk, &options, console)?)
}

/// A directory in the home for the time of the making.
struct Scratch {
    parent: std::sync::Arc<dyn Dir>,
    name: String,
    path: PathBuf,
}

impl Scratch {
    fn new(home: &Home, image: &str) -> Result<Self, Failure> {
        let parent = home.sub("scratch")?;
        let name = format!("image-{image}");
        clear(parent.as_ref(), &name)?;
        let dir = parent
            .create_dir(&name)
            .map_err(|error| Failure::io("making a scratch directory", &error))?;
        let path = dir
            .path()
            .ok_or_else(|| Failure::environment("the home is on no real file system"))?
            .to_owned();
        Ok(Self { parent, name, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be cleared now is cleared when the name is used again.
        let _ = clear(self.parent.as_ref(), &self.name);
    }
}

fn clear(parent: &dyn Dir, name: &str) -> Result<(), Failure> {
    match parent.remove_dir_all(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("clearing a scratch directory", &error))
        }
        _ => Ok(()),
    }
}
