//! The send half against our own receiving half, over a path that loses and delays: they must agree on everything.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sctp::receive::{DataOutcome, ReceiveConfig, Receiver, SctpMessage};

/// One way 10 ms.
const DELAY: Duration = Duration::from_millis(10);

struct Pair {
    rig: Rig,
    receiver: Receiver,
    to_receiver: VecDeque<(Instant, Vec<Data>)>,
    to_sender: VecDeque<(Instant, Sack)>,
    random: Random,
    /// Packets and SACKs lost, in percent.
    loss: u32,
    received: Vec<SctpMessage>,
}

impl Pair {
    fn new(seed: u64, loss: u32, buffer: usize) -> Self {
        let config = ReceiveConfig {
            buffer,
            partial_delivery_point: buffer / 2,
            ..ReceiveConfig::default()
        };
        let receiver = Receiver::new(&config, 1, 10);
        let a_rwnd = receiver.window() as u32;
        let send = SendConfig {
            buffer: 64 << 20,
            ..SendConfig::default()
        };
        Self {
            rig: Rig::with(send, PathConfig::default(), 1, a_rwnd),
            receiver,
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            random: Random::new(Some(seed)),
            loss,
            received: Vec::new(),
        }
    }

    fn lost(&mut self) -> bool {
        self.random.below(100) < self.loss
    }

    /// Runs until everything is delivered, in at most `limit` of simulated time.
    fn run(&mut self, limit: Duration) {
        let end = self.rig.now + limit;
        while !self.rig.sender.is_empty() {
            assert!(self.rig.now < end, "not delivered in time");
            let now = self.rig.now;
            while let Some(packet) = self.rig.packet() {
                if !self.lost() {
                    self.to_receiver.push_back((now + DELAY, packet.chunks));
                }
            }
            let next = [
                self.to_receiver.front().map(|(at, _)| *at),
                self.to_sender.front().map(|(at, _)| *at),
                self.receiver.sack_deadline(),
                self.rig.paths.next_deadline(),
            ];
            let next = next.into_iter().flatten().min();
            self.rig.now = next.expect("something is due").max(now);
            self.arrivals();
        }
    }

    fn arrivals(&mut self) {
        let now = self.rig.now;
        while self.to_receiver.front().is_some_and(|(at, _)| *at <= now) {
            for data in self.to_receiver.pop_front().unwrap().1 {
                let outcome = self.receiver.handle_data(data);
                assert!(!matches!(outcome, DataOutcome::Violation(_)), "{outcome:?}");
            }
            self.receiver.end_of_packet(now, false);
            while let Some(message) = self.receiver.recv(usize::MAX) {
                self.received.push(message);
            }
            self.send_sack();
        }
        self.send_sack();
        while self.to_sender.front().is_some_and(|(at, _)| *at <= now) {
            let (_, sack) = self.to_sender.pop_front().unwrap();
            let rig = &mut self.rig;
            rig.sender
                .handle_sack(now, &sack, &mut rig.paths)
                .expect("our receiver acknowledges what it got");
            rig.sender.check_counts(&rig.paths);
        }
        while let Some(path) = self.rig.paths.expired_t3(now) {
            let rig = &mut self.rig;
            let _ = rig.sender.handle_t3(now, path, &mut rig.paths);
        }
    }

    fn send_sack(&mut self) {
        let now = self.rig.now;
        if self.receiver.sack_due(now) {
            let sack = self.receiver.take_sack(PMDCS);
            if !self.lost() {
                self.to_sender.push_back((now + DELAY, sack));
            }
        }
    }

    /// The messages of a stream, parts put together.
    fn messages_on(&self, stream: u16) -> Vec<Vec<u8>> {
        let mut whole = vec![Vec::new()];
        for part in self.received.iter().filter(|m| m.stream == stream) {
            whole.last_mut().unwrap().extend_from_slice(&part.data);
            if part.end_of_record {
                whole.push(Vec::new());
            }
        }
        assert_eq!(whole.pop().map(|rest| rest.len()), Some(0));
        whole
    }
}

fn exchange(seed: u64, loss: u32, buffer: usize, messages: &[(u16, usize)]) -> Pair {
    let mut pair = Pair::new(seed, loss, buffer);
    let mut sent = vec![Vec::new(); 10];
    for (index, (stream, len)) in messages.iter().enumerate() {
        let octets: Vec<u8> = (0..*len).map(|i| (i * 3 + index) as u8).collect();
        sent[usize::from(*stream)].push(octets.clone());
        let options = SendOptions {
            stream: *stream,
            ..SendOptions::default()
        };
        pair.rig
            .sender
            .enqueue(Bytes::from(octets), &options, &pair.rig.paths)
            .unwrap();
    }
    pair.run(Duration::from_secs(100_000));
    for (stream, sent) in (0u16..).zip(&sent) {
        assert_eq!(&pair.messages_on(stream), sent, "stream {stream}");
    }
    pair
}

#[test]
fn bulk_without_loss_needs_no_retransmission_and_no_timeout() {
    let messages: Vec<_> = (0..200).map(|i| (i % 10, 65_536)).collect();
    let pair = exchange(1, 0, 1 << 20, &messages);
    let stats = pair.rig.sender.stats();
    assert_eq!(stats.chunks_retransmitted, 0, "{stats:?}");
    assert_eq!(stats.timeouts, 0);
    // 13 MB at a window of 1 MiB and a round trip of 20 ms: a third of a second and slow start.
    assert!(pair.rig.now.as_millis() < 2000, "{:?}", pair.rig.now);
}

#[test]
fn message_larger_than_the_peers_buffer_arrives_in_parts() {
    let pair = exchange(2, 0, 100_000, &[(3, 2_000_000)]);
    assert!(pair.received.len() > 10);
    assert_eq!(pair.rig.sender.stats().timeouts, 0);
}

#[test]
fn single_losses_are_mended_without_timeouts() {
    let messages: Vec<_> = (0..300).map(|i| (i % 10, 14_000)).collect();
    let mut timeouts = 0;
    let mut fast = 0;
    for seed in 0..10 {
        let pair = exchange(seed, 1, 1 << 20, &messages);
        timeouts += pair.rig.sender.stats().timeouts;
        fast += pair.rig.sender.stats().fast_retransmits;
    }
    assert!(fast > 100, "{fast}");
    assert!(timeouts * 5 < fast, "{timeouts} timeouts, {fast} fast");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn halves_agree_whatever_is_lost(
        seed in any::<u64>(),
        loss in 0u32..40,
        buffer in prop::sample::select(vec![8000usize, 65_536, 1 << 20]),
        messages in prop::collection::vec((0u16..10, 1usize..20_000), 1..40),
    ) {
        exchange(seed, loss, buffer, &messages);
    }
}
