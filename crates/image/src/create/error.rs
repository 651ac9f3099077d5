//! What can go wrong while an image is made.

use std::io;
use std::path::PathBuf;

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A program is not installed.
    #[error("{program} is not installed: install the package {package}")]
    MissingTool {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}): {stderr}")]
    ToolFailed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        stderr: String,
    },
    /// A file of ours can not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The recipe asks for something that can not be made.
    #[error("{what}: {found:?} is not possible; expected {expected}")]
    Recipe {
        /// The recipe's field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// The boot loader's files are not what they should be.
    #[error("the boot loader's {what} has {found} bytes, expected {expected}")]
    BootLoader {
        /// Which of its files.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What would do.
        expected: &'static str,
    },
}
