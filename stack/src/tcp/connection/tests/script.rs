//! A scripted peer: segments in and out as lines of text.
//!
//! ```text
//! < P. 1:101(100) ack 1 win 500      the peer sends; numbers are relative to the initial ones
//! > . 1:1(0) ack 101                 the connection must send exactly this next
//! -                                  the connection must have nothing to send
//! +200                               200 ms pass; due timers fire at their times
//! ```
//! Flags are S, F, R, P, U, E, W (CWR) and `.` for ACK. After the acknowledgment may follow `win N` (as in the header), `mss N`,
//! `wscale N`, `sackok`, `ts VALUE ECHO`, `sack A:B,C:D`, `urg N`, `seg N` (a super-packet's segment size), `ect` or `ce` (the IP
//! header's ECN field, which is always looked at). Of what is expected,
//! options not named are not looked at, but for SACK blocks, which must be absent then. Segments in consecutive `<` lines
//! arrive in one batch. Whatever the connection sends without being expected fails the script.

use std::collections::VecDeque;

use super::*;
use crate::stats::DropReason;
use crate::tcp::info::State;
use crate::wire::tcp::Timestamps;

/// Our initial sequence number: near the wrap, so that every script crosses it.
const ISS: u32 = u32::MAX - 500;
const IRS: u32 = u32::MAX - 100;

/// A connection and the scripted peer's side of it.
pub(super) struct Script {
    pub(super) connection: Connection,
    pub(super) now: Instant,
    pub(super) limits: TransmitLimits,
    /// What became of the last `<` segment.
    pub(super) last: Result<(), DropReason>,
    outbox: VecDeque<Transmit>,
}

/// One parsed line.
#[derive(Debug, Default, PartialEq)]
struct Line {
    flags: Flags,
    start: u32,
    len: usize,
    ack: Option<u32>,
    win: Option<u16>,
    mss: Option<u16>,
    wscale: Option<u8>,
    sackok: bool,
    ts: Option<(u32, u32)>,
    sack: Vec<(u32, u32)>,
    seg: Option<u16>,
    urg: u16,
    ecn: Ecn,
}

impl Script {
    /// A connection that has just been opened.
    pub(super) fn opening(config: Config) -> Self {
        let now = Instant::from_millis(10_000);
        Self {
            connection: open(now, &Arc::new(config), ISS),
            now,
            limits: limits(0),
            last: Ok(()),
            outbox: VecDeque::new(),
        }
    }

    /// An established connection to a peer with an MSS of 1000 and no other option, whose window is 50,000.
    pub(super) fn established() -> Self {
        Self::established_with(config(), "mss 1000")
    }

    /// The same with another configuration and other options in the peer's SYN-ACK.
    pub(super) fn established_with(config: Config, options: &str) -> Self {
        let mut script = Self::opening(config);
        script.run("> S 0:0(0)");
        script.run(&format!("< S. 0:0(0) ack 1 win 50000 {options}"));
        script.run("> . 1:1(0) ack 1");
        script.connection.take_readiness();
        script
    }

    pub(super) fn state(&self) -> State {
        self.connection.state()
    }

    /// Writes `len` octets, all of which must fit.
    pub(super) fn write(&mut self, len: usize) {
        assert_eq!(self.connection.write(&vec![b'x'; len]), Ok(len));
    }

    /// Reads and counts until nothing is left.
    pub(super) fn read_all(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while let Ok(n) = self.connection.read(&mut buffer)
            && n > 0
        {
            total += n;
        }
        total
    }

    /// Runs the lines; whatever is sent beyond what they expect is a failure.
    pub(super) fn run(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_at(1) {
                ("<", rest) => self.inject(&Line::parse(rest), line),
                (">", rest) => self.expect(&Line::parse(rest), line),
                ("+", millis) => {
                    self.expect_silence(line);
                    self.advance(ms(millis.trim().parse().expect("milliseconds")));
                }
                ("-", _) => self.expect_silence(line),
                _ => panic!("not a line of a script: {line}"),
            }
        }
        self.drain();
    }

    /// Lets the segments of `lines` arrive, but the connection not yet answer.
    pub(super) fn run_batch(&mut self, lines: &str) {
        for line in lines.lines() {
            self.inject(&Line::parse(line.trim_start_matches('<')), line);
        }
    }

    /// Lets the connection send and counts what it does not need to be asked for: `(segments, data octets)`.
    pub(super) fn take_output(&mut self) -> (usize, usize) {
        self.drain();
        let octets = self
            .outbox
            .iter()
            .map(|sent| sent.payload.iter().map(bytes::Bytes::len).sum::<usize>())
            .sum();
        let segments = self.outbox.len();
        self.outbox.clear();
        (segments, octets)
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.connection.poll_timeout()
            && at <= end
        {
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..1000 {
            match self.connection.poll_transmit(self.now, &self.limits) {
                Some(transmit) => self.outbox.push_back(transmit),
                None => return,
            }
        }
        panic!("poll_transmit has no end");
    }

    fn inject(&mut self, line: &Line, text: &str) {
        assert!(
            self.outbox.is_empty(),
            "{text}: not expected: {:?}",
            self.outbox
        );
        let header = Header {
            source_port: 80,
            destination_port: 4000,
            sequence: IRS.wrapping_add(line.start),
            acknowledgment: line.ack.map_or(0, |ack| ISS.wrapping_add(ack)),
            flags: line.flags,
            window: line.win.unwrap_or(50_000),
            urgent: line.urg,
            options: crate::wire::tcp::Options {
                mss: line.mss,
                window_scale: line.wscale,
                sack_permitted: line.sackok,
                timestamps: line.ts.map(|(value, echo)| Timestamps { value, echo }),
                sack: line
                    .sack
                    .iter()
                    .map(|(left, right)| (ISS.wrapping_add(*left), ISS.wrapping_add(*right)))
                    .collect(),
            },
        };
        let mut incoming = segment(header, &vec![b'p'; line.len]);
        if let Some(size) = line.seg {
            incoming.segment_size = usize::from(size);
        }
        incoming.ecn = line.ecn;
        self.last = self.connection.handle_segment(self.now, incoming);
    }

    fn expect(&mut self, line: &Line, text: &str) {
        if self.outbox.is_empty() {
            self.drain();
        }
        let sent = self
            .outbox
            .pop_front()
            .unwrap_or_else(|| panic!("{text}: nothing was sent at {:?}", self.now));
        let got = Line::of(&sent);
        let expected = Line {
            flags: line.flags,
            start: line.start,
            len: line.len,
            ack: line.ack,
            win: line.win.or(got.win),
            mss: line.mss.or(got.mss),
            wscale: line.wscale.or(got.wscale),
            sackok: line.sackok || got.sackok,
            ts: line.ts.or(got.ts),
            sack: line.sack.clone(),
            seg: line.seg.or(got.seg),
            urg: line.urg,
            ecn: line.ecn,
        };
        assert_eq!(got, expected, "sent (left), expected (right): {text}");
    }

    fn expect_silence(&mut self, text: &str) {
        self.drain();
        assert!(
            self.outbox.is_empty(),
            "{text}: not expected: {:?}",
            self.outbox.iter().map(Line::of).collect::<Vec<_>>()
        );
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_silence("end of the script");
        }
    }
}

impl Line {
    fn parse(text: &str) -> Self {
        let mut line = Self::default();
        let mut words = text.split_whitespace();
        let flags = words.next().expect("flags");
        for flag in flags.chars() {
            line.flags |= match flag {
                'S' => Flags::SYN,
                'F' => Flags::FIN,
                'R' => Flags::RST,
                'P' => Flags::PSH,
                'U' => Flags::URG,
                'E' => Flags::ECE,
                'W' => Flags::CWR,
                '.' => Flags::ACK,
                _ => panic!("no flag {flag}: {text}"),
            };
        }
        let numbers = words.next().expect("start:end(len)");
        let (start, rest) = numbers.split_once(':').expect("start:end(len)");
        let (_, len) = rest.split_once('(').expect("(len)");
        line.start = relative(start);
        line.len = len.trim_end_matches(')').parse().expect("a length");
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("a value");
            match word {
                "ack" => line.ack = Some(relative(value())),
                "win" => line.win = Some(value().parse().expect("a window")),
                "mss" => line.mss = Some(value().parse().expect("an MSS")),
                "wscale" => line.wscale = Some(value().parse().expect("a shift")),
                "urg" => line.urg = value().parse().expect("an urgent pointer"),
                "sackok" => line.sackok = true,
                "ect" => line.ecn = Ecn::Ect0,
                "ce" => line.ecn = Ecn::Ce,
                "seg" => line.seg = Some(value().parse().expect("a size")),
                "ts" => {
                    line.ts = Some((
                        value().parse().expect("TSval"),
                        value().parse().expect("TSecr"),
                    ));
                }
                "sack" => {
                    line.sack = value()
                        .split(',')
                        .map(|block| {
                            let (left, right) = block.split_once(':').expect("left:right");
                            (relative(left), relative(right))
                        })
                        .collect();
                }
                _ => panic!("no option {word}: {text}"),
            }
        }
        line
    }

    fn of(sent: &Transmit) -> Self {
        let header = &sent.header;
        let acks = header.flags.contains(Flags::ACK);
        let bare_reset = header.flags == Flags::RST;
        Self {
            flags: header.flags,
            start: if header.flags == Flags::RST | Flags::ACK && header.sequence == 0 {
                0
            } else {
                header.sequence.wrapping_sub(ISS)
            },
            len: sent.payload.iter().map(bytes::Bytes::len).sum(),
            ack: (acks && !bare_reset).then(|| header.acknowledgment.wrapping_sub(IRS)),
            win: Some(header.window),
            mss: header.options.mss,
            wscale: header.options.window_scale,
            sackok: header.options.sack_permitted,
            ts: header
                .options
                .timestamps
                .map(|option| (option.value, option.echo)),
            sack: header
                .options
                .sack
                .iter()
                .map(|(left, right)| (left.wrapping_sub(IRS), right.wrapping_sub(IRS)))
                .collect(),
            seg: sent.segment_size,
            urg: header.urgent,
            ecn: sent.ecn,
        }
    }
}

/// A number relative to the initial one; may be negative.
fn relative(text: &str) -> u32 {
    text.parse::<i64>().expect("a sequence number") as u32
}

/// A configuration in which nothing but what a test is about happens: no delayed ACKs' quick phase, NewReno.
pub(super) fn config() -> Config {
    Config {
        congestion_control: crate::tcp::config::CongestionControl::NewReno,
        quick_acks: 0,
        ..Config::default()
    }
}
