//! What the kernel counts in a namespace.

use std::collections::BTreeMap;
use std::fs;

/// The kernel's counters in the calling thread's namespace, as `nstat` shows them: `TcpInErrs`, `Icmp6OutMsgs`, ….
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// The counters now.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn read() -> Self {
        let mut counters = BTreeMap::new();
        for file in ["snmp", "netstat"] {
            let text = read_proc(file);
            let lines: Vec<&str> = text.lines().collect();
            // Pairs of lines: names, then values, each after the protocol's name.
            for pair in lines.chunks_exact(2) {
                let (Some((protocol, names)), Some((_, values))) =
                    (pair[0].split_once(':'), pair[1].split_once(':'))
                else {
                    continue;
                };
                for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                    // `TcpMaxConn` is -1.
                    let value = value.parse().unwrap_or(0);
                    counters.insert(format!("{protocol}{name}"), value);
                }
            }
        }
        for line in read_proc("snmp6").lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                counters.insert(name.to_owned(), value);
            }
        }
        Self(counters)
    }

    /// One counter.
    ///
    /// # Panics
    /// When the kernel has no counter of that name: a test would assert nothing.
    pub fn value(&self, name: &str) -> u64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("this kernel has no counter {name}"))
    }

    /// How much `name` grew from `earlier` to this.
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.value(name).saturating_sub(earlier.value(name))
    }

    /// Everything that changed from `earlier` to this, for messages.
    pub fn changes(&self, earlier: &Self) -> String {
        let changed = self.0.iter().filter_map(|(name, &value)| {
            let grown = value.saturating_sub(earlier.0.get(name).copied().unwrap_or(0));
            (grown > 0).then(|| format!("{name} +{grown}"))
        });
        changed.collect::<Vec<_>>().join(", ")
    }
}

/// `self` would be the process's first thread, which is in another namespace.
fn read_proc(file: &str) -> String {
    let path = format!("/proc/thread-self/net/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
