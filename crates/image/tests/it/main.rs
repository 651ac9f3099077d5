//! Golden images by way of the jailed worker. A test with a main of its own, because it is both
//! sides: started as a worker, it is one.

mod disk;
mod figures;
mod layout;

use std::process::ExitCode;

use goldleaf_worker::{Launcher, serve};

/// The tests, by name.
const TESTS: &[(&str, fn())] = &[
    ("files_lie_where_debugfs_finds_them", layout::files_lie_where_debugfs_finds_them),
    ("every_block_travels_once", layout::every_block_travels_once),
    ("files_of_very_many_runs_come_in_pieces", layout::files_of_very_many_runs_come_in_pieces),
    ("what_cannot_be_read_is_refused", layout::what_cannot_be_read_is_refused),
];

/// Run with `--ignored`, in release: they print figures.
const FIGURES: &[(&str, fn())] = &[("two_hundred_thousand_files", figures::of_many_files)];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, count] = &args[..]
        && word == "worker"
    {
        return match serve(count.parse().expect("a number of files")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let tests = if args.iter().any(|arg| arg == "--ignored") { FIGURES } else { TESTS };
    for (name, test) in tests {
        println!("test {name} …");
        test();
    }
    println!("{} passed, 0 failed", tests.len());
    ExitCode::SUCCESS
}

/// Starts this program as a worker.
fn launcher() -> Launcher {
    Launcher::new(std::env::current_exe().expect("own path"), vec!["worker".into()])
}
