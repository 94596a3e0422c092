//! A virtual wire between two connections: delay, loss, reordering, duplication, all from one seed.

use std::collections::BTreeMap;

use super::*;
use crate::random::Random;
use crate::tcp::info::State;

/// What the wire does to each segment that the size of a packet allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Impairment {
    pub(super) delay: Duration,
    /// Parts of a thousand.
    pub(super) loss: u32,
    pub(super) duplication: u32,
    /// Segments delayed by up to three more delays.
    pub(super) reordering: u32,
}

impl Impairment {
    pub(super) fn none(delay: Duration) -> Self {
        Self {
            delay,
            loss: 0,
            duplication: 0,
            reordering: 0,
        }
    }
}

/// An application: what it still writes, and what it has read.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) to_write: usize,
    pub(super) written: usize,
    pub(super) read: usize,
    pub(super) saw_end: bool,
    pub(super) error: Option<SocketError>,
    /// Shut the write side when all is written.
    pub(super) shut: bool,
    /// Largest read at a time; 0 does not read.
    pub(super) read_size: usize,
}

/// The octet at a place in either stream.
pub(super) fn octet(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

pub(super) struct Wire {
    pub(super) now: Instant,
    pub(super) ends: [Connection; 2],
    pub(super) apps: [App; 2],
    pub(super) impairment: Impairment,
    pub(super) limits: TransmitLimits,
    pub(super) segments: usize,
    pub(super) time_waits: usize,
    random: Random,
    in_flight: BTreeMap<(Instant, u64), (usize, Segment)>,
    serial: u64,
}

impl Wire {
    /// Two connected ends, the handshake being done without losses.
    pub(super) fn connected(
        configs: [Config; 2],
        impairment: Impairment,
        super_payload: usize,
        seed: u64,
    ) -> Self {
        let [client_config, server_config] = configs.map(Arc::new);
        let limits = limits(super_payload);
        let mut now = Instant::from_millis(1000);
        let mut client = open(now, &client_config, u32::MAX - 20_000);
        let syn = arrive(client.poll_transmit(now, &limits).expect("a SYN"));
        now += impairment.delay;
        let (syn_ack, request) = answer_syn(now, &server_config, &syn, 5000);
        now += impairment.delay;
        client.handle_segment(now, syn_ack).expect("a good SYN-ACK");
        assert_eq!(client.state(), State::Established);
        let ack = arrive(client.poll_transmit(now, &limits).expect("the third ACK"));
        now += impairment.delay;
        let mut server = Connection::from_request(now, request, Arc::default());
        server.handle_segment(now, ack).expect("a good ACK");
        Self {
            now,
            ends: [client, server],
            apps: Default::default(),
            impairment,
            limits,
            segments: 0,
            time_waits: 0,
            random: Random::new(Some(seed)),
            in_flight: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Gives both applications something to do.
    pub(super) fn transfer(&mut self, client_writes: usize, server_writes: usize) {
        for (app, to_write) in self.apps.iter_mut().zip([client_writes, server_writes]) {
            app.to_write = to_write;
            app.shut = true;
            app.read_size = 50_000;
        }
    }

    /// Runs until `done` or nothing is left to happen; panics when virtual time passes `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.step_apps();
            self.flush();
            if done(self) {
                return;
            }
            let timeout = self.ends.iter().filter_map(Connection::poll_timeout).min();
            let arrival = self.in_flight.keys().next().map(|key| key.0);
            let Some(next) = timeout.into_iter().chain(arrival).min() else {
                panic!("nothing left to happen: {:?}", self.summary());
            };
            assert!(next <= end, "too slow: {:?}", self.summary());
            self.now = self.now.max(next);
            self.deliver();
            for end in &mut self.ends {
                if end.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.handle_timeout(self.now);
                }
            }
        }
    }

    /// Runs until both streams have arrived to their ends, and checks how the connections stand then.
    pub(super) fn run_to_completion(&mut self, limit: Duration) {
        self.run_until(limit, |wire| {
            wire.apps
                .iter()
                .all(|app| app.saw_end || app.error.is_some())
                && wire
                    .ends
                    .iter()
                    .all(|end| matches!(end.state(), State::Closed | State::TimeWait))
        });
        for (app, other) in [(0, 1), (1, 0)] {
            assert_eq!(self.apps[app].error, None, "{:?}", self.summary());
            assert_eq!(self.apps[app].read, self.apps[other].to_write);
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "at {:?}: {:?} {:?} {:?}",
            self.now,
            self.apps,
            self.ends[0].info(),
            self.ends[1].info()
        )
    }

    fn step_apps(&mut self) {
        for (app, end) in self.apps.iter_mut().zip(&mut self.ends) {
            app.step(end);
        }
    }

    fn flush(&mut self) {
        for from in 0..2 {
            for _ in 0..10_000 {
                let Some(transmit) = self.ends[from].poll_transmit(self.now, &self.limits) else {
                    break;
                };
                self.send(from, transmit);
            }
            assert!(
                !self.ends[from].wants_transmit(),
                "poll_transmit has no end"
            );
            if let Phase::TimeWait(_) = self.ends[from].phase() {
                self.time_waits += 1;
            }
        }
    }

    /// Cuts a super-packet as a device would, and lets the wire have each piece.
    fn send(&mut self, from: usize, transmit: Transmit) {
        let Some(size) = transmit.segment_size.map(usize::from) else {
            self.send_packet(from, arrive(transmit));
            return;
        };
        let data: Vec<u8> = transmit.payload.concat();
        let pieces = data.chunks(size);
        let last = pieces.len() - 1;
        for (i, piece) in pieces.enumerate() {
            let mut header = transmit.header.clone();
            header.sequence = header.sequence.wrapping_add((i * size) as u32);
            if i < last {
                header.flags = Flags(header.flags.0 & !(Flags::FIN.0 | Flags::PSH.0));
            }
            self.send_packet(from, segment(header, piece));
        }
    }

    fn send_packet(&mut self, from: usize, packet: Segment) {
        assert!(
            packet.payload_len() + 20 + 20 <= MTU,
            "larger than the path"
        );
        self.segments += 1;
        if self.random.below(1000) < self.impairment.loss {
            return;
        }
        let copies = 1 + u32::from(self.random.below(1000) < self.impairment.duplication);
        for _ in 0..copies {
            let mut at = self.now + self.impairment.delay;
            if self.random.below(1000) < self.impairment.reordering {
                at += self.impairment.delay * self.random.below(300) / 100;
            }
            self.serial += 1;
            self.in_flight
                .insert((at, self.serial), (1 - from, packet.clone()));
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, packet) = entry.remove();
            let _dropped_for_a_reason = self.ends[to].handle_segment(self.now, packet);
        }
    }
}

impl App {
    fn step(&mut self, end: &mut Connection) {
        while self.written < self.to_write {
            let len = (self.to_write - self.written).min(30_000);
            let data: Vec<u8> = (self.written..self.written + len).map(octet).collect();
            match end.write(&data) {
                Ok(n) => self.written += n,
                Err(SocketError::WouldBlock) => break,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
        if self.shut && self.written == self.to_write {
            let _closed_already = end.shutdown_write();
        }
        let mut buffer = vec![0; self.read_size];
        while self.read_size > 0 && !self.saw_end {
            match end.read(&mut buffer) {
                Ok(0) => self.saw_end = true,
                Ok(n) => {
                    for (i, got) in buffer[..n].iter().enumerate() {
                        assert_eq!(*got, octet(self.read + i), "octet {}", self.read + i);
                    }
                    self.read += n;
                }
                Err(SocketError::WouldBlock) => break,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }
}
