//! Fixed pieces of work whose cost is counted in instructions: the same in every run, so that a change of the code shows
//! as a change of a number.
//!
//! Two whole stacks on a [`Cable`], no runtime, no real time, fixed seeds. `callgrind.sh` runs each scenario and
//! compares the counts with `callgrind.reference`. What a scenario does must stay as it is: a new question is a new
//! scenario.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidewire::engine::TcpSlot;
use tidewire::tcp;
use tidewire_netdev::OffloadSet;

use crate::cable::{Cable, CableConfig, read};
use crate::world::{Side, shutdown, write};

/// One of the scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One stream with super-packets, which the devices would cut and sum.
    BulkSuper,
    /// One stream in packets of 1500 octets, which both stacks cut and sum themselves.
    BulkMtu,
    /// Small messages to and fro on one connection, each waiting for the other.
    PingPong,
    /// Connections one after the other, opened and closed again, TIME-WAIT included.
    ConnectClose,
    /// Many connections with small messages on each in turn.
    ManyFlows,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What is counted.
    Full,
    /// A hundredth of it, for tests.
    Small,
}

/// What a scenario has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Connections opened.
    pub connections: usize,
    /// Octets that applications read, the content compared with what was written.
    pub octets: usize,
    /// Packets between the stacks, super-packets counted once.
    pub packets: u64,
}

/// Octets of a message of [`Scenario::PingPong`] and [`Scenario::ManyFlows`].
const MESSAGE: usize = 64;
/// Octets written and read at once in bulk.
const BULK: usize = 64 << 10;
/// Messages on each connection of [`Scenario::ManyFlows`].
const ROUNDS: usize = 20;

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::BulkSuper,
        Self::BulkMtu,
        Self::PingPong,
        Self::ConnectClose,
        Self::ManyFlows,
    ];

    /// Its name on the command line and in the reference.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BulkSuper => "bulk_super",
            Self::BulkMtu => "bulk_mtu",
            Self::PingPong => "ping_pong",
            Self::ConnectClose => "connect_close",
            Self::ManyFlows => "many_flows",
        }
    }

    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
    }

    /// How much of it a size is: octets in bulk, messages or connections elsewhere.
    const fn amount(self, size: Size) -> usize {
        let full = match self {
            Self::BulkSuper => 64 << 20,
            Self::BulkMtu => 16 << 20,
            Self::PingPong => 20_000,
            Self::ConnectClose => 5_000,
            Self::ManyFlows => 1_000,
        };
        match size {
            Size::Full => full,
            Size::Small => full / 100,
        }
    }

    /// What [`Self::run`] moves, packets apart.
    pub const fn expected(self, size: Size) -> Moved {
        let amount = self.amount(size);
        let (connections, octets) = match self {
            Self::BulkSuper | Self::BulkMtu => (1, amount),
            Self::PingPong => (1, 2 * amount * MESSAGE),
            Self::ConnectClose => (amount, 0),
            Self::ManyFlows => (amount, amount * ROUNDS * MESSAGE),
        };
        Moved {
            connections,
            octets,
            packets: 0,
        }
    }

    /// Runs it.
    ///
    /// # Panics
    /// When the stacks do not do what they should.
    pub fn run(self, size: Size) -> Moved {
        let amount = self.amount(size);
        match self {
            Self::BulkSuper => bulk(amount, OffloadSet::ALL),
            Self::BulkMtu => bulk(amount, OffloadSet::NONE),
            Self::PingPong => ping_pong(amount),
            Self::ConnectClose => connect_close(amount),
            Self::ManyFlows => many_flows(amount),
        }
    }
}

/// Octets that differ from their neighbours, so that none goes to the wrong place unnoticed.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn bulk(len: usize, offloads: OffloadSet) -> Moved {
    let mut cable = Cable::new(&CableConfig {
        offloads,
        ..CableConfig::default()
    });
    let (client, server) = cable.connected(false);
    let (body, mut buffer) = (pattern(BULK), vec![0; BULK]);
    let (mut written, mut octets) = (0, 0);
    let mut has_shut = false;
    cable.run_until(|cable| {
        let (a, b) = (cable.engine(Side::A), cable.engine(Side::B));
        while written < len {
            let from = written % BULK;
            let until = BULK.min(from + len - written);
            match write(a, &client, &body[from..until]) {
                0 => break,
                count => written += count,
            }
        }
        if written == len && !has_shut {
            shutdown(a, &client);
            has_shut = true;
        }
        loop {
            let from = octets % BULK;
            match read(b, &server, &mut buffer[from..]) {
                None => return false,
                Some(0) => return true,
                Some(count) => {
                    assert_eq!(buffer[from..from + count], body[from..from + count]);
                    octets += count;
                }
            }
        }
    });
    moved(&cable, 1, octets)
}

/// Writes a message at one end and reads it at the other.
fn pass(
    cable: &mut Cable,
    (from, sender): (Side, &Arc<TcpSlot>),
    (to, receiver): (Side, &Arc<TcpSlot>),
    message: &[u8],
) -> usize {
    let mut buffer = [0; MESSAGE];
    let mut octets = 0;
    assert_eq!(
        write(cable.engine(from), sender, message),
        message.len(),
        "there is room"
    );
    cable.run_until(|cable| {
        let count = read(cable.engine(to), receiver, &mut buffer[octets..]);
        octets += count.unwrap_or(0);
        octets == message.len()
    });
    assert_eq!(buffer[..octets], *message);
    octets
}

fn ping_pong(count: usize) -> Moved {
    let mut cable = Cable::new(&CableConfig::default());
    let (client, server) = cable.connected(false);
    let message = pattern(MESSAGE);
    let mut octets = 0;
    for _ in 0..count {
        let (a, b) = ((Side::A, &client), (Side::B, &server));
        octets += pass(&mut cable, a, b, &message);
        octets += pass(&mut cable, b, a, &message);
    }
    moved(&cable, 1, octets)
}

fn connect_close(count: usize) -> Moved {
    let mut cable = Cable::new(&CableConfig {
        tcp: tcp::Config {
            // Short enough for most to end before the last connection, so that their ends are counted, too.
            time_wait: Duration::from_millis(10),
            ..tcp::Config::default()
        },
        ..CableConfig::default()
    });
    let listener = cable.listen(false, 80);
    let remote = SocketAddr::new(Side::B.address(false), 80);
    for _ in 0..count {
        let (client, server) = cable.connect(&listener, remote);
        cable.close(Side::A, &client);
        cable.run_until(|cable| read(cable.engine(Side::B), &server, &mut [0]) == Some(0));
        cable.close(Side::B, &server);
        cable.settle();
    }
    // What is left of A's ends is their TIME-WAIT.
    while cable.step() {}
    let left = [Side::A, Side::B].map(|side| cable.engine(side).sockets().len());
    assert_eq!(left, [0, 1], "the listener alone");
    moved(&cable, count, 0)
}

fn many_flows(count: usize) -> Moved {
    let mut cable = Cable::new(&CableConfig::default());
    let listener = cable.listen(false, 80);
    let remote = SocketAddr::new(Side::B.address(false), 80);
    let flows: Vec<_> = (0..count)
        .map(|_| cable.connect(&listener, remote))
        .collect();
    let (message, mut buffer) = (pattern(MESSAGE), [0; 2 * MESSAGE]);
    let mut octets = 0;
    for _ in 0..ROUNDS {
        for (client, _) in &flows {
            let written = write(cable.engine(Side::A), client, &message);
            assert_eq!(written, MESSAGE, "there is room");
        }
        cable.settle();
        for (_, server) in &flows {
            let count = read(cable.engine(Side::B), server, &mut buffer).unwrap_or(0);
            assert_eq!(buffer[..count], message[..]);
            octets += count;
        }
        // Those that wait to be acknowledged are, before the next message.
        cable.settle();
    }
    moved(&cable, count, octets)
}

fn moved(cable: &Cable, connections: usize, octets: usize) -> Moved {
    Moved {
        connections,
        octets,
        packets: cable.packets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_moves_what_it_says_in_packets_of_its_kind() {
        for scenario in Scenario::ALL {
            let moved = scenario.run(Size::Small);
            let expected = scenario.expected(Size::Small);
            assert_eq!(
                (moved.connections, moved.octets),
                (expected.connections, expected.octets),
                "{scenario:?}"
            );
            // At least: one packet per super-packet, segment, message; seven to open and close a connection.
            let (least, most) = match scenario {
                Scenario::BulkSuper => (10, 200),
                Scenario::BulkMtu => (115, 300),
                Scenario::PingPong => (400, 810),
                Scenario::ConnectClose => (350, 400),
                Scenario::ManyFlows => (10 * (ROUNDS as u64 + 3), 1_000),
            };
            let packets = moved.packets;
            assert!(
                (least..=most).contains(&packets),
                "{scenario:?}: {packets} packets"
            );
        }
    }

    #[test]
    fn a_scenario_sends_the_same_packets_each_time() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.run(Size::Small), scenario.run(Size::Small));
        }
    }

    #[test]
    fn names_name_their_scenarios() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("bulk"), None);
    }
}
