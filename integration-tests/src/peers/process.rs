//! A peer that runs: what it says, a JSON object a line, and how it ends.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::namespace::announce;

/// How long the next line of a peer may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running peer. It is killed when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<Value>,
    /// Nobody waits for its end any more.
    finished: bool,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.finished {
            let status = self.child.try_wait();
            announce(&format!(
                "left alone ({status:?}), a peer that said {:#?}",
                self.said
            ));
        }
    }
}

impl Peer {
    /// Starts it, in the namespace of the calling thread.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().expect("piped");
        Self {
            child,
            lines: BufReader::new(output).lines(),
            said: Vec::new(),
            finished: false,
        }
    }

    /// The next event that `wanted` picks, of those not waited for yet.
    ///
    /// # Panics
    /// When the peer ends without it, or says nothing for long.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.next().await {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("no {what} in {:#?}", self.said),
            }
        }
    }

    /// [`Self::until`] an event has this name.
    ///
    /// # Panics
    /// As there.
    pub async fn event(&mut self, name: &str) -> Value {
        self.until(name, |event| event["ev"] == name).await
    }

    /// Asks it to end, as Ctrl-C does.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn interrupt(&self) {
        let id = self.child.id().expect("a peer that runs");
        let id = Pid::from_raw(i32::try_from(id).expect("a process id"));
        kill(id, Signal::SIGTERM).expect("a child of ours");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn finish(mut self) -> Ended {
        while self.next().await.is_some() {}
        let status = timeout(PATIENCE, self.child.wait()).await;
        self.finished = true;
        Ended {
            status: status.expect("it has closed its output").expect("a child"),
            said: std::mem::take(&mut self.said),
        }
    }

    async fn next(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("nothing more after {:#?}", self.said));
        let line = line.expect("a pipe")?;
        let event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        self.said.push(event.clone());
        Some(event)
    }
}

/// What became of a peer.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status: 0 when the association went well and all data was right.
    pub status: ExitStatus,
    /// All its events.
    pub said: Vec<Value>,
}

impl Ended {
    /// Its account of its only association.
    ///
    /// # Panics
    /// When it gave none.
    pub fn account(&self) -> &Value {
        let done = self.said.iter().find(|event| event["ev"] == "done");
        done.unwrap_or_else(|| panic!("no account in {self:#?}"))
    }

    /// Whether it has said so.
    pub fn said(&self, name: &str) -> bool {
        self.said.iter().any(|event| event["ev"] == name)
    }

    /// Asserts that it was content, and got and sent as many messages and octets.
    ///
    /// # Panics
    /// When not.
    pub fn assert_well(&self, received: (u64, u64), sent: (u64, u64)) {
        let account = self.account();
        assert!(self.status.success(), "{self:#?}");
        assert_eq!(account["result"], "ok", "{self:#?}");
        for wrong in ["bad", "missing", "out_of_order", "send_failed"] {
            assert_eq!(account[wrong], 0, "{self:#?}");
        }
        for (name, expected) in [
            ("rx_msgs", received.0),
            ("rx_bytes", received.1),
            ("tx_msgs", sent.0),
            ("tx_bytes", sent.1),
        ] {
            assert_eq!(account[name], expected, "{name} in {self:#?}");
        }
    }
}
