//! Runs `goldleaf` as a child, and drives the guests that it starts.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use goldleaf_e2e::images::ROOT_PASSWORD;
use goldleaf_e2e::{Console, HarnessError};

use crate::stage::Voice;

/// From a command to the guest's first sign: composing and validating come before.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A boot of a translated guest on a busy host.
const BOOT_TIMEOUT: Duration = Duration::from_secs(400);
const TICK: Duration = Duration::from_millis(100);

/// The program with its home.
pub struct Goldleaf {
    pub program: PathBuf,
    pub home: PathBuf,
    pub voice: Voice,
}

impl Goldleaf {
    /// Runs a command that must succeed, and shows what it says.
    pub fn run(&self, args: &[&str]) -> Result<(), HarnessError> {
        self.run_showing(args, &|_| true)
    }

    /// The same, but shows only lines that are worth it; the others are counted.
    pub fn run_showing(
        &self,
        args: &[&str],
        worth: &dyn Fn(&str) -> bool,
    ) -> Result<(), HarnessError> {
        let text = self.ask(args)?;
        let (shown, hidden): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| worth(line));
        shown.iter().for_each(|line| self.voice.output(line));
        if !hidden.is_empty() {
            self.voice.output(&format!("… and {} more lines", hidden.len()));
        }
        Ok(())
    }

    /// Runs a command that must succeed, and gives back what it says.
    pub fn ask(&self, args: &[&str]) -> Result<String, HarnessError> {
        self.voice.command(&format!("goldleaf {}", args.join(" ")));
        let output = self.command(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(HarnessError::Tool { program: "goldleaf", said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that starts a guest, and logs in there as root. `place` is the directory
    /// below the home where the guest's sockets are.
    pub fn start(&self, args: &[&str], place: &str) -> Result<Guest, HarnessError> {
        self.voice.command(&format!("goldleaf {}", args.join(" ")));
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let tales = [
            child.stdout.take().map(|s| follow(s, self.voice)),
            child.stderr.take().map(|s| follow(s, self.voice)),
        ];
        let socket = self.home.join(place).join("run/serial.sock");
        let start = Instant::now();
        let mut guest = Starting { child, tales: tales.into_iter().flatten().collect() };
        let mut console = guest.console(&socket)?;
        console.login("root", ROOT_PASSWORD, BOOT_TIMEOUT)?;
        let seconds = start.elapsed().as_secs();
        self.voice.tell(&format!("  (started, and logged in at its console, after {seconds} s)"));
        Ok(Guest { console, host: guest, voice: self.voice })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(&self.home).args(args).stdin(Stdio::null());
        command
    }
}

/// Shows the lines of a stream as they come; reports of progress are left out.
fn follow(stream: impl Read + Send + 'static, voice: Voice) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if !line.ends_with('%') && !line.ends_with('…') {
                voice.output(&line);
            }
        }
    })
}

/// A child that runs a guest; killed if it is left behind.
struct Starting {
    child: Child,
    tales: Vec<JoinHandle<()>>,
}

impl Starting {
    fn console(&mut self, socket: &Path) -> Result<Console, HarnessError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match Console::connect(socket) {
                Ok(console) => return Ok(console),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                self.listen_out();
                let said = format!("it ended ({status}) before its guest ran");
                return Err(HarnessError::Tool { program: "goldleaf", said });
            }
            std::thread::sleep(TICK);
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), HarnessError> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.listen_out();
                let said = format!("it ended with {status}");
                let failed = HarnessError::Tool { program: "goldleaf", said };
                return if status.success() { Ok(()) } else { Err(failed) };
            }
            std::thread::sleep(TICK);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not power off").into())
    }

    fn listen_out(&mut self) {
        for tale in self.tales.drain(..) {
            // A thread that only prints has nothing to report.
            let _ = tale.join();
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Already gone, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A guest with root at its console.
pub struct Guest {
    console: Console,
    host: Starting,
    voice: Voice,
}

impl Guest {
    /// Types a command that must succeed.
    pub fn types(&mut self, command: &str) -> Result<(), HarnessError> {
        self.voice.guest(command);
        let text = self.console.run(command)?;
        text.lines().for_each(|line| self.voice.output(line));
        Ok(())
    }

    /// Puts a file of the host's into the guest.
    pub fn upload(&mut self, file: &Path, to: &str) -> Result<(), HarnessError> {
        self.voice.tell(&format!("  ({to} arrives in the guest, as a download would)"));
        self.console.upload(to, &std::fs::read(file)?)
    }

    /// Looks whether something is so, by a command that must succeed then.
    pub fn check(&mut self, claim: &str, command: &str) -> Result<(), HarnessError> {
        let command = format!("set -e\n{command}");
        self.console.run(&command)?;
        self.voice.holds(claim);
        Ok(())
    }

    /// Powers off from inside, and waits until the session is filed.
    pub fn power_off(mut self) -> Result<(), HarnessError> {
        self.voice.guest("poweroff");
        self.console.send("systemctl poweroff")?;
        self.host.wait(BOOT_TIMEOUT)
    }
}
