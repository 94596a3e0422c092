//! One way of bulk between two engines on an event heap, and what it took: goodput, timeouts, retransmissions.

use std::time::Duration;

use tidewire::config::Config;
use tidewire::tcp::{Connection, Info};

use crate::bodies::{body, hash};
use crate::world::{LinkConfig, Side, World, read, shutdown, write};

/// What a transfer took.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the first octet written to the end of the stream read, in virtual time.
    pub elapsed: Duration,
    /// Octets delivered.
    pub octets: usize,
    /// The sender's view at the end.
    pub sender: Info,
    /// Retransmission timeouts of the sender since the connection was established.
    pub timeouts: u64,
    /// Packets of the sender that the link has lost, SYN and ACKs included.
    pub lost: u64,
}

impl Outcome {
    /// Delivered bits per second of virtual time.
    pub fn goodput(&self) -> f64 {
        self.octets as f64 * 8.0 / self.elapsed.as_secs_f64()
    }

    /// Segments that the receiver reports to have got twice.
    pub fn spurious(&self) -> u64 {
        self.sender.dsack_dups
    }
}

/// Sends `octets` from A to B over `link` and closes; everything must arrive within `limit` of virtual time.
///
/// # Panics
/// When it does not, or arrives changed.
pub fn transfer(link: &LinkConfig, config: Config, octets: usize, limit: Duration) -> Outcome {
    transfer_with(link, config, octets, limit, |_| {})
}

/// The same after `prepare` has set options of the sender's connection.
///
/// # Panics
/// As [`transfer`].
pub fn transfer_with(
    link: &LinkConfig,
    config: Config,
    octets: usize,
    limit: Duration,
    prepare: impl FnOnce(&mut Connection),
) -> Outcome {
    let data = body(link.seed, octets);
    let mut world = World::with_config(link, config);
    let (client, server) = world.connected(false, limit);
    prepare(&mut client.lock().socket.connection);
    let start = world.now;
    let handshake = client.lock().socket.connection.info();
    let (mut sent, mut closed, mut received) = (0, false, Vec::with_capacity(octets));
    let done = world.run_until(limit, |world| {
        let (a, b) = (world.engine(Side::A), world.engine(Side::B));
        if sent < octets {
            sent += write(a, &client, &data[sent..]);
        } else if !closed {
            shutdown(a, &client);
            closed = true;
        }
        let end = read(b, &server, &mut received);
        world.flush();
        end
    });
    let sender = client.lock().socket.connection.info();
    assert!(
        done,
        "seed {}: {} of {octets} octets arrived by {:?}: {sender:?}",
        link.seed,
        received.len(),
        world.now
    );
    assert_eq!(hash(&received), hash(&data), "seed {}", link.seed);
    Outcome {
        elapsed: world.now - start,
        octets,
        sender,
        timeouts: sender.timeouts - handshake.timeouts,
        lost: world.link_stats(Side::A).lost,
    }
}
