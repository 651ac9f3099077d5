//! Errors as a person meets them: one sentence, what to do about it, and an exit code by kind.

use std::error::Error;
use std::process::ExitCode;

use goldleaf_block::BlockError;
use goldleaf_client::ClientError;
use goldleaf_feed::FeedError;
use goldleaf_fetch::FetchError;
use goldleaf_image::ImageError;
use goldleaf_image::create::CreateError;
use goldleaf_layer::ManifestError;
use goldleaf_layer::rules::RulesError;
use goldleaf_player::{PlayerError, sentence};
use goldleaf_server::ServerError;
use goldleaf_store::StoreError;
use goldleaf_vm::VmError;
use goldleaf_worker::WorkerError;
use serde::Serialize;

use crate::output;

/// Whose affair a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request cannot be met as it was made.
    User,
    /// A file of rules or settings is wrong.
    Config,
    /// This machine lacks something: space, a program, a permission.
    Environment,
    /// Goldleaf failed, or what it stored is damaged.
    Internal,
}

impl FailureKind {
    fn exit_code(self) -> u8 {
        match self {
            Self::User => 2,
            Self::Config => 3,
            Self::Environment => 4,
            Self::Internal => 70,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    message: String,
    hint: Option<String>,
}

/// A failure as JSON.
#[derive(Serialize)]
struct Told<'a> {
    error: &'a str,
    kind: FailureKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The request cannot be met as it was made.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(FailureKind::User, message)
    }

    /// A file of settings is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Config, message)
    }

    /// This machine lacks something.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Environment, message)
    }

    /// Goldleaf failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, message)
    }

    /// An error of the system's, while something was done.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let failure = Self::environment(format!("{what}: {error}"));
        match io_hint(error.kind()) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(kind: FailureKind, error: &dyn Error) -> Self {
        Self::new(kind, sentence(error))
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Says it on standard error, and gives the exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        let hint = self.hint.as_deref();
        if json {
            let told = Told { error: &self.message, kind: self.kind, hint };
            let text = serde_json::to_string(&told).unwrap_or_else(|_| self.message.clone());
            output::complain_json(&text);
        } else {
            output::complain(&format!("error: {}", self.message));
            if let Some(hint) = hint {
                output::complain(&format!("hint: {hint}"));
            }
        }
        ExitCode::from(self.kind.exit_code())
    }
}

const FULL_HINT: &str = "free some space; `goldleaf gc` gives back what no desktop needs any more";
const DOCTOR_HINT: &str = "`goldleaf doctor` looks at this machine and says what to do";
const DAMAGE_HINT: &str =
    "what Goldleaf stored is damaged, by the storage or by a fault; do not delete anything yet";

fn io_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(FULL_HINT),
        ErrorKind::PermissionDenied => Some("check who owns that file or directory"),
        ErrorKind::ReadOnlyFilesystem => Some("choose a home that can be written, with `--home`"),
        _ => None,
    }
}

fn code_hint(code: Option<i32>) -> Option<&'static str> {
    io_hint(std::io::Error::from_raw_os_error(code?).kind())
}

impl Failure {
    fn maybe_hint(self, hint: Option<&str>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

impl From<PlayerError> for Failure {
    fn from(error: PlayerError) -> Self {
        use FailureKind::{Environment, Internal, User};
        match error {
            PlayerError::Image(error) => error.into(),
            PlayerError::Store(error) => error.into(),
            PlayerError::Layer(error) => error.into(),
            PlayerError::Rules(error) => error.into(),
            PlayerError::Block(error) => error.into(),
            PlayerError::Worker(error) => error.into(),
            PlayerError::Vm(error) => error.into(),
            PlayerError::Feed(error) => error.into(),
            PlayerError::Trust(error) => error.into(),
            PlayerError::Fetch(error) => error.into(),
            PlayerError::Director(error) => error.into(),
            PlayerError::Unknown { kind, .. } => Self::of(User, &error).maybe_hint(where_is(kind)),
            PlayerError::Exists { kind: "subscription", ref name } => {
                let hint = format!("`goldleaf update {name}` goes on with it");
                Self::of(User, &error).hint(hint)
            }
            PlayerError::Exists { .. } => Self::of(User, &error).hint("choose another name"),
            PlayerError::Busy { kind: "desktop", ref name, .. } => {
                let hint = format!("`goldleaf status {name}` shows what it is doing");
                Self::of(User, &error).hint(hint)
            }
            PlayerError::Busy { .. } | PlayerError::Refused(_) => Self::of(User, &error),
            PlayerError::TooSmall { ref image, wanted, .. } => {
                Self::of(User, &error).hint(room_hint(image, wanted))
            }
            PlayerError::Io { ref source, .. } => {
                Self::of(Environment, &error).maybe_hint(io_hint(source.kind()))
            }
            PlayerError::Corrupt { .. } => Self::of(Internal, &error).hint(DAMAGE_HINT),
            _ => Self::of(Internal, &error),
        }
    }
}

/// How layers fit an image that is too small for them.
fn room_hint(image: &str, wanted: Option<u64>) -> String {
    let room = match wanted {
        Some(bytes) => {
            format!("`goldleaf image grow {image} --size {}G` makes room", bytes.div_ceil(1 << 30))
        }
        None => format!("import a disk with larger partitions in place of `{image}`"),
    };
    format!(
        "{room}; or take something away: `goldleaf apps` removes packages, `goldleaf rollback` \
         goes back to an older version of the image or of a layer"
    )
}

/// Where things of a kind are listed.
fn where_is(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "desktop" => "`goldleaf list` shows the desktops that there are",
        "LivePC" => "`goldleaf livepc list` shows the LivePCs that there are",
        "layer" => "`goldleaf layer list` shows the layers that there are",
        "version of that layer" => "`goldleaf history` shows the versions that there are",
        "package of the user's" => "`goldleaf apps` shows what the user installed",
        _ => return None,
    })
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        use FailureKind::{Environment, Internal, User};
        match error {
            FeedError::Trust(error) => error.into(),
            FeedError::Fetch(error) => error.into(),
            FeedError::Io { ref source, .. } => {
                Self::of(Environment, &error).maybe_hint(io_hint(source.kind()))
            }
            FeedError::Incompatible { .. } => Self::of(User, &error)
                .hint("record the layer on that image, or publish it without the layer"),
            _ => Self::of(Internal, &error)
                .hint("what runs here is as it was; its author has to publish again"),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        use FailureKind::{Environment, User};
        match error {
            FetchError::Location { .. } => Self::of(User, &error),
            FetchError::Storage { .. } => Self::of(Environment, &error).hint(
                "check the bucket's name, and AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY",
            ),
            _ => Self::of(Environment, &error)
                .hint("check that the place can be reached; what runs here is as it was"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        use FailureKind::{Environment, Internal, User};
        match error {
            ClientError::Refused { .. } | ClientError::Wrong(_) => Self::of(User, &error),
            ClientError::Stranger(_) => Self::of(User, &error)
                .hint("check the address with whoever gave you the code; nothing was told to it"),
            ClientError::Unreachable { .. } => Self::of(Environment, &error).hint(
                "check the address, that the server runs, and that it was told of that name \
                     (`goldleaf server --name`)",
            ),
            ClientError::Answer { .. } => Self::of(Internal, &error)
                .hint("the server and this program may be of versions too far apart"),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        use FailureKind::{Environment, User};
        match error {
            ServerError::Organisation { .. } | ServerError::Newer { .. } => Self::of(User, &error),
            _ => Self::of(Environment, &error),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        use FailureKind::{Environment, Internal, User};
        match error {
            ImageError::Refused { reason, cure } => Self::user(reason).hint(cure),
            ImageError::Worker(error) => error.into(),
            ImageError::Block(error) => error.into(),
            ImageError::Unknown(_) => {
                Self::of(User, &error).hint("`goldleaf image list` shows the images that there are")
            }
            ImageError::Exists(_) => Self::of(User, &error)
                .hint("choose another name, or remove it with `goldleaf image delete`"),
            ImageError::BadName(_) => Self::of(User, &error),
            ImageError::Tool(_) => Self::of(Environment, &error).hint(DOCTOR_HINT),
            ImageError::Io { ref source, .. } => {
                Self::of(Environment, &error).maybe_hint(io_hint(source.kind()))
            }
            ImageError::Corrupt { .. } => Self::of(Internal, &error).hint(DAMAGE_HINT),
            _ => Self::of(Internal, &error),
        }
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        use FailureKind::{Environment, User};
        match error {
            CreateError::Recipe { .. } => Self::of(User, &error),
            CreateError::Io { ref source, .. } => {
                Self::of(Environment, &error).maybe_hint(io_hint(source.kind()))
            }
            CreateError::ToolFailed { program: "mmdebstrap", .. } => Self::of(Environment, &error)
                .hint("check that the archive can be reached and has these packages"),
            _ => Self::of(Environment, &error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        use FailureKind::{Environment, Internal, User};
        match error {
            StoreError::Content(error) => error.into(),
            StoreError::Io { code, .. } => {
                Self::of(Environment, &error).maybe_hint(code_hint(code))
            }
            StoreError::Busy(_) | StoreError::PlanStale(_) => {
                Self::of(User, &error).hint("try again when the other command is done")
            }
            _ => Self::of(Internal, &error).hint(DAMAGE_HINT),
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Store(error) => error.into(),
            _ => Self::of(FailureKind::Internal, &error).hint(DAMAGE_HINT),
        }
    }
}

impl From<BlockError> for Failure {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Io { code, .. } => {
                Self::of(FailureKind::Environment, &error).maybe_hint(code_hint(code))
            }
            BlockError::Poisoned => Self::of(FailureKind::Environment, &error)
                .hint("check the storage (`dmesg`), then start the desktop again"),
            BlockError::OutOfRange { .. } => Self::of(FailureKind::Internal, &error),
            _ => Self::of(FailureKind::Internal, &error).hint(DAMAGE_HINT),
        }
    }
}

impl From<RulesError> for Failure {
    fn from(error: RulesError) -> Self {
        Self::of(FailureKind::Config, &error)
            .hint("`goldleaf rules check FILE` checks the file again without using it")
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Refused(_) | WorkerError::TooSmall(_) => {
                Self::of(FailureKind::User, &error)
            }
            WorkerError::Jail(_) => Self::of(FailureKind::Environment, &error).hint(DOCTOR_HINT),
            _ => Self::of(FailureKind::Internal, &error).hint(DOCTOR_HINT),
        }
    }
}

impl From<VmError> for Failure {
    fn from(error: VmError) -> Self {
        let kind = match error {
            VmError::Protocol { .. } | VmError::Refused { .. } => FailureKind::Internal,
            _ => FailureKind::Environment,
        };
        Self::of(kind, &error).hint(DOCTOR_HINT)
    }
}
