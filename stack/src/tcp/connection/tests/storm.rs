//! Segments that no sane peer sends, in any order, with the application at work: nothing panics, spins, or grows.

use proptest::prelude::*;

use super::script::config;
use super::*;
use crate::tcp::config::MtuProbing;
use crate::wire::tcp::{Options, Timestamps};

const ISS: u32 = u32::MAX - 3000;
const IRS: u32 = u32::MAX - 2000;

#[derive(Clone, Debug)]
enum Step {
    /// Flags, sequence number from RCV.NXT, acknowledgment from SND.UNA or SND.NXT, octets, segment size, window, SACK.
    Segment {
        flags: u8,
        sequence: i32,
        ack: (bool, i32),
        len: usize,
        size: usize,
        window: u16,
        sack: Vec<(i32, u32)>,
        timestamp: i32,
    },
    Write(usize),
    Read(usize),
    Shutdown,
    Close,
    /// The path's MTU and whether super-packets are of use.
    Path(usize, bool),
    Icmp(usize, u32),
    Wait(u64),
    /// Sends what there is.
    Fire,
    Held,
    Flush,
}

fn distance() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => Just(0),
        3 => -3i32..4,
        3 => -3000i32..70_000,
        1 => any::<i32>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        60 => Just(0x10u8),
        4 => Just(0x18u8),
        2 => Just(0x11u8),
        1 => any::<u8>(),
    ];
    let len = prop_oneof![3 => Just(0usize), 3 => 1..1500usize, 1 => 1500..60_000usize];
    let window = prop_oneof![2 => Just(0u16), 2 => 0..3000u16, 4 => any::<u16>()];
    // Mostly inside of what is in flight, so that recoveries begin.
    let edge = prop_oneof![8 => (1i32..60).prop_map(|half| half * 500), 1 => distance()];
    let sack = prop::collection::vec((edge, 1u32..5000), 0..4);
    let segment = (
        flags,
        distance(),
        (any::<bool>(), distance()),
        len,
        1usize..1500,
        window,
        sack,
        -2i32..3,
    );
    prop_oneof![
        30 => segment.prop_map(|(flags, sequence, ack, len, size, window, sack, timestamp)| {
            Step::Segment { flags, sequence, ack, len, size, window, sack, timestamp }
        }),
        6 => (1usize..100_000).prop_map(Step::Write),
        4 => (1usize..100_000).prop_map(Step::Read),
        1 => Just(Step::Shutdown),
        1 => Just(Step::Close),
        1 => (0usize..9000, any::<bool>()).prop_map(|(mtu, offload)| Step::Path(mtu, offload)),
        1 => (68usize..2000, 0u32..100_000).prop_map(|(mtu, ahead)| Step::Icmp(mtu, ahead)),
        6 => prop_oneof![12 => 0u64..100, 3 => 0..5000u64, 1 => Just(100_000u64)].prop_map(Step::Wait),
        2 => Just(Step::Fire),
        2 => Just(Step::Held),
        8 => Just(Step::Flush),
    ]
}

struct Storm {
    connection: Connection,
    now: Instant,
    limits: TransmitLimits,
}

impl Storm {
    fn new(options: Options, sack_and_timestamps: bool, mtu_probing: MtuProbing) -> Self {
        let now = Instant::from_millis(10_000);
        let config = Config {
            sack: sack_and_timestamps,
            timestamps: sack_and_timestamps,
            receive_buffer: 100_000,
            send_buffer: 100_000,
            max_receive_buffer: 100_000,
            max_send_buffer: 100_000,
            mtu_probing,
            mtu_probe_base: 300,
            ..config()
        };
        let mut storm = Self {
            connection: open(now, &Arc::new(config), ISS),
            now,
            limits: limits(60_000),
        };
        storm.flush();
        let header = Header {
            sequence: IRS,
            acknowledgment: ISS + 1,
            flags: Flags::SYN | Flags::ACK,
            window: 60_000,
            options,
            ..Header::default()
        };
        storm
            .connection
            .handle_segment(now, segment(header, b""))
            .expect("a good SYN-ACK");
        storm.flush();
        storm
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Segment {
                flags,
                sequence,
                ack,
                len,
                size,
                window,
                sack,
                timestamp,
            } => {
                let una = self.connection.window.snd_una.0;
                let base = if ack.0 {
                    una
                } else {
                    self.connection.window.snd_nxt.0
                };
                let recent = self
                    .connection
                    .negotiated
                    .timestamps
                    .map(|state| Timestamps {
                        value: state.recent.wrapping_add_signed(timestamp),
                        echo: state.option(self.now).value.wrapping_add_signed(timestamp),
                    });
                let header = Header {
                    sequence: self
                        .connection
                        .receive
                        .rcv_nxt()
                        .0
                        .wrapping_add_signed(sequence),
                    acknowledgment: base.wrapping_add_signed(ack.1),
                    flags: Flags(flags),
                    window,
                    options: Options {
                        timestamps: recent,
                        sack: sack
                            .into_iter()
                            .map(|(left, len)| {
                                let left = una.wrapping_add_signed(left);
                                (left, left.wrapping_add(len))
                            })
                            .collect(),
                        ..Options::default()
                    },
                    ..Header::default()
                };
                let mut incoming = segment(header, &vec![7; len]);
                incoming.segment_size = size.min(len);
                let _ = self.connection.handle_segment(self.now, incoming);
            }
            Step::Write(len) => {
                let _ = self.connection.write(&vec![1; len]);
            }
            Step::Read(len) => {
                let _ = self.connection.read(&mut vec![0; len]);
            }
            Step::Shutdown => {
                let _ = self.connection.shutdown_write();
            }
            Step::Close => self.connection.close(self.now),
            Step::Path(mtu, offload) => {
                self.limits.path_mtu = mtu;
                self.limits.max_super_payload = if offload { 65_535 } else { 0 };
            }
            Step::Icmp(mtu, ahead) => {
                let error = crate::transport::IcmpError::PacketTooBig { mtu };
                let quoted = self.connection.window.snd_una + ahead;
                let _ = self.connection.handle_icmp(self.now, error, quoted);
            }
            Step::Wait(millis) => self.wait(ms(millis)),
            Step::Fire => self.fire(),
            Step::Held => self.connection.handle_held_back(self.now),
            Step::Flush => self.flush(),
        }
        self.check();
    }

    fn wait(&mut self, by: Duration) {
        let end = self.now + by;
        self.flush();
        for _ in 0..10_000 {
            match self.connection.poll_timeout() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.connection.handle_timeout(self.now);
                    self.flush();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the timers spin at {:?}", self.now);
    }

    /// Lets the next timer fire; what it wants sent is not sent before the next step.
    fn fire(&mut self) {
        if let Some(at) = self.connection.poll_timeout() {
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
        }
    }

    fn flush(&mut self) {
        // With segments of 8 octets, all that is buffered may take this many, once lost and once new.
        for _ in 0..25_000 {
            let Some(sent) = self.connection.poll_transmit(self.now, &self.limits) else {
                assert!(!self.connection.wants_transmit());
                let over = self.connection.lifecycle.is_over();
                assert!(
                    !over || self.connection.nothing_pending(),
                    "it would never be let go"
                );
                return;
            };
            let len: usize = sent.payload.iter().map(bytes::Bytes::len).sum();
            assert!(len <= 65_535);
            assert!(sent.segment_size.is_none_or(|size| len > usize::from(size)));
            let end = SeqNum(sent.header.sequence) + len as u32;
            assert!(end.at_or_before(self.connection.window.snd_nxt) || len == 0);
            assert!(sent.header.encoded_len() <= 60, "{:?}", sent.header);
        }
        panic!("poll_transmit has no end");
    }

    fn check(&mut self) {
        let info = self.connection.info();
        assert!(info.receive_buffered <= 100_000 + 25_000 + 65_536);
        assert!(info.send_buffered <= 100_000);
        assert!(info.cwnd >= info.mss.min(8));
        assert!(info.path_mtu_search.is_none_or(|(low, high)| low <= high));
        assert!(info.rto <= Duration::from_secs(120));
        assert!(self.connection.pending.acks.len() <= 256);
        let edge = self.connection.receive.window.right_edge();
        assert!(edge.at_or_after(self.connection.receive.rcv_nxt()));
        if matches!(self.connection.phase(), Phase::Closed) {
            assert_eq!(
                self.connection.poll_timeout(),
                None,
                "nothing is left to do"
            );
        }
    }
}

proptest! {
    #[test]
    fn survives_any_storm(
        modern: bool,
        probing in prop_oneof![Just(MtuProbing::Always), Just(MtuProbing::AfterBlackHole)],
        mss in prop_oneof![Just(1000u16), Just(536), Just(0), any::<u16>()],
        shift in prop_oneof![Just(0u8), Just(7), any::<u8>()],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let options = Options {
            mss: Some(mss),
            window_scale: Some(shift),
            sack_permitted: modern,
            timestamps: modern.then_some(Timestamps { value: 9, echo: 10_077 }),
            ..Options::default()
        };
        let mut storm = Storm::new(options, modern, probing);
        for step in steps {
            storm.run(step);
        }
        // However it went: left alone, with nobody holding it, the connection ends.
        storm.connection.close(storm.now);
        storm.flush();
        for _ in 0..100 {
            storm.wait(ms(120_000));
        }
        prop_assert_eq!(storm.connection.poll_timeout(), None);
        prop_assert!(!matches!(storm.connection.phase(), Phase::Open), "{:?}", storm.connection.state());
    }
}
