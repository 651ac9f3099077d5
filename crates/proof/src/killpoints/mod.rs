//! Kill points: every step of the client's state machines, and what happens when the process is
//! killed, stopped, failed or left without disk space right before or right after it.
//!
//! ```text
//!   chapter: what a person asks for, in a process of its own
//!     ├─ once in peace: which points it passes, and what the home looks like in the end
//!     └─ point × how manieth time × deed: the process dies there, or does not;
//!        then the same is asked for again: it must need no other help, and end the same
//! ```
//! The processes run the player's own code, workers and jail included. Only the hypervisor is a
//! stand-in, whose guest writes what debugfs made of its disk; in one chapter it is QEMU, with a
//! guest of a few instructions.

mod chapters;
mod deed;
mod director;
mod driver;
mod ground;
mod guest;
mod look;

pub use driver::{child, run};

/// Every step that the code names.
const STEPS: &[&str] = &[
    "agent.settings",
    "cache.limit",
    "collect.bench",
    "collect.half-made",
    "collect.session",
    "composed.make",
    "composed.prune",
    "desktop.create",
    "desktop.forget",
    "desktop.identity",
    "desktop.remove",
    "enrolment.begin",
    "enrolment.certificate",
    "enrolment.checked-in",
    "enrolment.enrolled",
    "enrolment.followed",
    "enrolment.leave",
    "enrolment.order",
    "enrolment.step",
    "export.content",
    "export.metadata",
    "guest.first",
    "guest.second",
    "image.abandon",
    "image.begin",
    "image.boot",
    "image.data",
    "image.discard",
    "image.forget",
    "image.map",
    "image.punch",
    "image.remove",
    "image.retire",
    "image.version",
    "layer.forget",
    "layer.pack",
    "layer.record",
    "layer.remove",
    "layer.retire",
    "layer.version",
    "layers.edit",
    "layers.pack",
    "layers.roll-back",
    "livepc.adopt",
    "livepc.back",
    "livepc.create",
    "livepc.forget",
    "livepc.pass",
    "livepc.remove",
    "livepc.retry",
    "livepc.try",
    "machine.launch",
    "machine.quit",
    "machine.reset",
    "publish.content",
    "publish.delta",
    "publish.draft",
    "publish.show",
    "publish.sign",
    "receive.content",
    "receive.delta",
    "receive.layer",
    "receive.seed",
    "repair.images",
    "repair.salvage",
    "repair.stores",
    "session.begin",
    "session.discard",
    "session.end",
    "session.file",
    "session.log",
    "session.pack",
    "session.panic",
    "session.remove",
    "session.sleep",
    "store.remove",
    "store.rewrite",
    "subscription.carry",
    "subscription.create",
    "subscription.defer",
    "subscription.forget",
    "subscription.pin",
    "subscription.remove",
    "workshop.begin",
    "workshop.clear",
    "workshop.made",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What comes before a step's name in the code.
    const CALLS: [&str; 5] =
        ["step(", "commit(", "mark(desktop,", "self.write(", "change(home, name,"];
    const CRATES: [&str; 4] = ["image", "player", "store", "proof"];

    /// Every step that the code names is in the list, and the reverse.
    #[test]
    fn the_list_is_whole() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut named = BTreeSet::new();
        for name in CRATES {
            collect(&crates.join(name).join("src"), &mut named);
        }
        // The guest takes its steps in a loop.
        named.extend(["guest.first", "guest.second"].map(String::from));
        let listed: BTreeSet<String> = super::STEPS.iter().map(|step| step.to_string()).collect();
        assert_eq!(named, listed);
    }

    fn collect(dir: &Path, named: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("sources") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                collect(&path, named);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            for rest in CALLS.iter().flat_map(|call| text.split(call).skip(1)) {
                let quoted = rest.trim_start().strip_prefix('"');
                let name = quoted.and_then(|rest| rest.split('"').next());
                // Steps have a dot in their names, and no spaces.
                let name = name.filter(|name| name.contains('.') && !name.contains(' '));
                named.extend(name.map(str::to_owned));
            }
        }
    }
}
