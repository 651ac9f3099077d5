//! What can go wrong in the harness.

use std::io;

/// Why a guest could not be driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The console did not say what was waited for.
    #[error("waited {seconds} s at the console for {what}; it said last:\n{tail}")]
    Silent {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The end of what came.
        tail: String,
    },
    /// The console closed: the guest's machine is gone.
    #[error("the console closed while waiting for {what}; it said last:\n{tail}")]
    Closed {
        /// What was waited for.
        what: String,
        /// The end of what came.
        tail: String,
    },
    /// A command in the guest failed.
    #[error("in the guest: {command}: status {status}:\n{text}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it wrote.
        text: String,
    },
    /// A program of the host's failed.
    #[error("{program} failed: {said}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The product.
    #[error(transparent)]
    Player(#[from] goldleaf_player::PlayerError),
    /// An image of the product's.
    #[error(transparent)]
    Image(#[from] goldleaf_image::ImageError),
    /// A disk of the product's.
    #[error(transparent)]
    Block(#[from] goldleaf_block::BlockError),
    /// A tree of the product's.
    #[error(transparent)]
    Tree(#[from] goldleaf_tree::TreeError),
    /// A story did not go as it should.
    #[error("{what}; events:\n{events}")]
    Story {
        /// What was wrong.
        what: String,
        /// What the product told.
        events: String,
    },
    /// The hypervisor.
    #[error(transparent)]
    Vm(#[from] goldleaf_vm::VmError),
    /// The image.
    #[error(transparent)]
    Create(#[from] goldleaf_image::create::CreateError),
    /// A file or socket of the harness.
    #[error(transparent)]
    Io(#[from] io::Error),
}
