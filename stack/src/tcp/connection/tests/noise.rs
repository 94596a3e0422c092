//! A peer that sends anything: nothing may panic, hang or grow (DESIGN section 10).

use super::script::config;
use super::*;
use crate::random::Random;
use crate::wire::tcp::Timestamps;

/// A connection and a source of nonsense about it.
struct Noise {
    random: Random,
    now: Instant,
    connection: Connection,
    limits: TransmitLimits,
}

impl Noise {
    fn new(seed: u64) -> Self {
        let now = Instant::from_millis(5000);
        let mut random = Random::new(Some(seed));
        let config = Config {
            sack: seed.is_multiple_of(2),
            timestamps: seed.is_multiple_of(3),
            receive_buffer: 20_000,
            send_buffer: 30_000,
            max_reassembly_ranges: 8,
            ..config()
        };
        let config = Arc::new(config);
        let limits = limits(if seed.is_multiple_of(5) { 0 } else { 60_000 });
        let mut client = open(now, &config, random.next_u32());
        let connection = if seed.is_multiple_of(7) {
            client // stays in SYN-SENT until something gets it out of there
        } else {
            let syn = arrive(client.poll_transmit(now, &limits).expect("a SYN"));
            let (_, request) = answer_syn(now, &config, &syn, random.next_u32());
            Connection::from_request(now, request, Arc::default())
        };
        Self {
            random,
            now,
            connection,
            limits,
        }
    }

    /// A number that is likely to matter.
    fn near(&mut self, center: SeqNum) -> u32 {
        match self.random.below(8) {
            0 => self.random.next_u32(),
            1 | 2 => (center - self.random.below(3000)).0,
            3 => (center + self.random.below(40_000)).0,
            4 => (center + self.random.below(3)).0,
            _ => center.0,
        }
    }

    fn segment(&mut self) -> Segment {
        let rcv_nxt = self.connection.receive.rcv_nxt();
        let window = self.connection.window;
        let flags = match self.random.below(12) {
            0 => Flags(self.random.next_u32() as u8),
            1 => Flags::ACK | Flags::FIN,
            2 if self.random.below(20) == 0 => Flags::RST,
            _ => Flags::ACK,
        };
        let acknowledged = if self.random.below(2) == 0 {
            window.snd_una
        } else {
            window.snd_nxt
        };
        let mut header = Header {
            source_port: 4000,
            destination_port: 80,
            sequence: self.near(rcv_nxt),
            acknowledgment: self.near(acknowledged),
            flags,
            window: self.random.next_u32() as u16 >> self.random.below(16),
            urgent: self.random.next_u32() as u16,
            options: crate::wire::tcp::Options::default(),
        };
        for _ in 0..self.random.below(4) {
            let left = self.near(window.snd_una);
            let right = left.wrapping_add(self.random.below(5000));
            header.options.sack.push((left, right));
        }
        if self.random.below(4) > 0 {
            let value = self.now.as_millis() as u32;
            let echo = self.random.next_u32();
            header.options.timestamps = Some(Timestamps { value, echo });
        }
        header.options.mss = (self.random.below(4) == 0).then_some(self.random.next_u32() as u16);
        let len = [0, 0, 1, 700, 1448, 9000][self.random.below(6) as usize];
        let mut incoming = segment(header, &vec![0; len]);
        incoming.segment_size = self.random.below(1449) as usize;
        incoming
    }

    /// One thing that the peer, the application or time does.
    fn step(&mut self) {
        let mut buffer = [0; 3000];
        match self.random.below(20) {
            0..=11 => {
                let incoming = self.segment();
                let _dropped_or_not = self.connection.handle_segment(self.now, incoming);
            }
            12 | 13 => {
                let _full = self.connection.write(&buffer);
            }
            14 => {
                let _empty = self.connection.read(&mut buffer);
            }
            15 => {
                let mtu = 48 + self.random.below(1500) as usize;
                let error = crate::transport::IcmpError::PacketTooBig { mtu };
                let number = self.connection.window.snd_una;
                let _outdated = self.connection.handle_icmp(self.now, error, number);
            }
            16 if self.random.below(30) == 0 => {
                let _over = self.connection.shutdown_write();
            }
            17 if self.random.below(60) == 0 => self.connection.close(self.now),
            _ => {
                self.now += ms(u64::from(self.random.below(400)));
                self.connection.handle_timeout(self.now);
            }
        }
    }

    /// Sends what is due and checks that it makes sense.
    fn flush(&mut self) {
        let mut sent = 0;
        while let Some(transmit) = self.connection.poll_transmit(self.now, &self.limits) {
            sent += 1;
            assert!(sent < 2000, "sends without end: {:?}", self.connection);
            let len: usize = transmit.payload.iter().map(bytes::Bytes::len).sum();
            let size = transmit.segment_size.map_or(len, usize::from);
            let header = transmit.header.encoded_len();
            assert!(
                size + header + 20 <= self.limits.path_mtu,
                "{size} + {header}"
            );
            assert!(header <= 60);
            let end = SeqNum(transmit.header.sequence) + len as u32;
            let window = &self.connection.window;
            let stray = transmit.header.flags == Flags::RST; // answers with the peer's number
            assert!(stray || end.at_or_before(window.snd_nxt));
        }
        assert!(!self.connection.wants_transmit());
        // What was promised may exceed the buffer by a quarter, by rounding to the window shift.
        assert!(self.connection.receive.buffer.len() <= 25_000);
        let deadline = self.connection.poll_timeout();
        assert!(deadline.is_none_or(|at| at <= self.now + Duration::from_secs(7300)));
    }
}

#[test]
fn nothing_a_peer_sends_does_harm() {
    for seed in 0..300 {
        let mut noise = Noise::new(seed);
        for _ in 0..400 {
            noise.step();
            noise.flush();
            let _told_once = noise.connection.phase();
        }
        noise.connection.abort();
        noise.flush();
        assert!(
            !noise.connection.buffer.owns_memory() && noise.connection.poll_timeout().is_none()
        );
    }
}
