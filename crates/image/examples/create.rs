//! Makes a small Debian image: `create DISK WORK-DIRECTORY`. Its root password is `root`.

use std::path::PathBuf;

use goldleaf_image::create::{Password, Recipe, Suite, create_debian};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(disk), Some(work)) = (arguments.next(), arguments.next()) else {
        return Err("usage: create DISK WORK-DIRECTORY".into());
    };
    let mut recipe = Recipe::new("example", Suite::Bookworm, 1_750_000_000);
    recipe.root_password = Password::Plain("root".into());
    create_debian(&recipe, &work, &disk, &mut |step| println!("{step:?}"))?;
    Ok(())
}
