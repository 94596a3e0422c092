//! What a program says: one JSON object a line for programs, or a line of text for people.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

/// Where and in which of the two forms a program reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    json: bool,
    stderr: bool,
}

impl Output {
    /// Reports on stdout, as JSON if `json`.
    pub const fn new(json: bool) -> Self {
        Self {
            json,
            stderr: false,
        }
    }

    /// The same on stderr, for programs whose stdout carries data.
    #[must_use]
    pub const fn on_stderr(self) -> Self {
        Self {
            stderr: true,
            ..self
        }
    }

    /// Whether people read along; a progress bar, say, is for them only.
    pub const fn is_for_people(self) -> bool {
        !self.json
    }

    /// Writes one event as a line: its fields as JSON, or its text.
    ///
    /// # Errors
    /// What writing gives; a closed pipe, most often.
    pub fn event<E: Serialize + Display>(self, event: &E) -> io::Result<()> {
        if self.stderr {
            self.write(&mut io::stderr().lock(), event)
        } else {
            self.write(&mut io::stdout().lock(), event)
        }
    }

    fn write<E: Serialize + Display>(self, to: &mut impl Write, event: &E) -> io::Result<()> {
        // One write a line: a reader never sees half an object.
        let line = if self.json {
            serde_json::to_string(event)? + "\n"
        } else {
            format!("{event}\n")
        };
        to.write_all(line.as_bytes())?;
        to.flush()
    }
}

/// A server is ready.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "listening")]
pub struct Listening {
    /// The first address that it can be reached at.
    pub address: SocketAddr,
    /// What the device does for the stack, as [`tidewire_netdev::OffloadSet::names`] has it.
    pub offloads: Vec<&'static str>,
}

impl Display for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "listening on {}, offloads: ", self.address)?;
        if self.offloads.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.offloads.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(output: Output, event: &Listening) -> String {
        let mut line = Vec::new();
        output.write(&mut line, event).expect("written");
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn the_listening_line_is_what_scripts_wait_for() {
        let event = Listening {
            address: "10.7.0.2:80".parse().expect("an address"),
            offloads: vec!["csum", "tso4"],
        };
        assert_eq!(
            line(Output::new(true), &event),
            "{\"event\":\"listening\",\"address\":\"10.7.0.2:80\",\"offloads\":[\"csum\",\"tso4\"]}\n"
        );
        assert_eq!(
            line(Output::new(false), &event),
            "listening on 10.7.0.2:80, offloads: csum tso4\n"
        );
    }
}
