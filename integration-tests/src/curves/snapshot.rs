//! Outcomes as lines of text, and the files that keep them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cell::{CONTROLLERS, Cell, alias, grid};
use super::run::Outcome;

/// What the columns of [`line()`] are.
pub const COLUMNS: &str = "\
# goodput of the steady state and of the whole run in percent of the link; packets sent, retransmitted, spurious, refused;
# round trips with losses, recoveries, undos; timeouts after bursts over half a window, in silence, avoidable ones
#                                            goodput    packets                            episodes              timeouts";

/// A run's numbers. The same code gives the same line on every machine.
pub fn line(outcome: &Outcome) -> String {
    let episodes = outcome.episodes;
    format!(
        "{:5.1} {:5.1}  {:7} {:6} {:5} {:5}  {:4} {:4} {:4}  {:3} {:3} {:3}",
        outcome.steady,
        outcome.whole,
        outcome.packets,
        outcome.retransmitted,
        outcome.spurious,
        outcome.refused,
        episodes.lossy_rounds,
        outcome.sender.recoveries,
        outcome.sender.undos,
        episodes.after_bursts,
        episodes.in_silence,
        episodes.avoidable,
    )
}

/// A run's congestion window in segments, as it went.
pub fn trace(outcome: &Outcome) -> String {
    let mut text = String::new();
    for window in &outcome.windows {
        let _ = write!(text, " {window}");
    }
    text
}

/// What a line is about: a controller and a cell, with the name that the cell may have besides.
pub fn key(controller: &str, cell: &Cell) -> String {
    let name = alias(cell).map_or_else(String::new, |alias| format!(" ({alias})"));
    format!("{controller:5} {:37}", format!("{cell}{name}"))
}

/// A file of the tree with one line for each of some keys, after lines of comment.
pub struct Snapshot {
    path: PathBuf,
    comment: String,
    lines: BTreeMap<String, String>,
}

impl Snapshot {
    /// The file of that name in `integration-tests/curves`, or an empty one. `comment` is what it begins with when it is
    /// written.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn open(name: &str, comment: &str) -> io::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("curves")
            .join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|line| line.split_once(SEPARATOR));
        Ok(Self {
            path,
            comment: comment.to_owned(),
            lines: lines
                .map(|(key, rest)| (key.trim().to_owned(), rest.to_owned()))
                .collect(),
        })
    }

    /// What differs between the file and a line for `key`, or `None`.
    pub fn difference(&self, key: &str, line: &str) -> Option<String> {
        let kept = self.lines.get(key.trim()).map_or("nothing", String::as_str);
        (kept.trim() != line.trim()).then(|| {
            format!(
                "{}\n  kept {}\n  now  {}",
                key.trim(),
                kept.trim(),
                line.trim()
            )
        })
    }

    /// Puts a line in the place of the one for `key`.
    pub fn set(&mut self, key: &str, line: String) {
        self.lines.insert(key.trim().to_owned(), line);
    }

    /// Keeps lines only whose key is among `keys`.
    pub fn retain(&mut self, keys: &[String]) {
        self.lines
            .retain(|line, _| keys.iter().any(|key| key.trim() == line));
    }

    /// Writes the file: lines of cells in the order of the grid, others by name.
    ///
    /// # Errors
    /// As writing does.
    pub fn write(&self) -> io::Result<()> {
        let mut order = BTreeMap::new();
        for (controller, _) in CONTROLLERS {
            for cell in grid() {
                let place = order.len();
                order.insert(key(controller, &cell).trim().to_owned(), place);
            }
        }
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|(key, _)| (order.get(*key).copied().unwrap_or(usize::MAX), *key));
        let mut text = format!("{}\n", self.comment);
        for (key, line) in lines {
            let _ = writeln!(text, "{key:43}{SEPARATOR}{line}");
        }
        fs::create_dir_all(self.path.parent().expect("a folder"))?;
        fs::write(&self.path, text)
    }
}

/// Between a key and what is kept for it.
const SEPARATOR: &str = ":";
