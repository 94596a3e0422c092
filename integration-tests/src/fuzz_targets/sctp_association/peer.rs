//! A peer: it knows its association as a correct one would, and sends what the fuzzer asks for near that.

use bytes::Bytes;
use tidewire::wire::sctp::{Chunk, CommonHeader, DataHeader, kind};
use tidewire_netdev::Packet;

use super::{Input, PEER};

/// Chunks in a packet at most.
const MAX_CHUNKS: u8 = 5;

/// The numbers of one association, or of one that is offered.
#[derive(Clone, Copy, Default)]
struct Numbers {
    /// The peer's tag, which the engine's packets carry.
    tag: u32,
    /// The next TSN of the peer.
    tsn: u32,
    /// The engine's tag.
    engine_tag: u32,
    /// The last TSN that the engine has sent.
    engine_tsn: u32,
    /// The next stream sequence numbers.
    ssn: [u16; 8],
}

pub(super) struct Peer {
    port: u16,
    /// The engine's port.
    engine_port: u16,
    current: Numbers,
    /// What the last INIT of the peer has begun.
    offered: Numbers,
    cookie: Bytes,
    /// Information of the engine's last HEARTBEAT.
    heartbeat: Bytes,
    last_packet: Bytes,
}

/// A packet being built, chunk by chunk.
struct Builder(Vec<u8>);

impl Builder {
    fn chunk(&mut self, kind: u8, flags: u8, value: &[u8]) {
        let len = (value.len() + 4).min(usize::from(u16::MAX)) as u16;
        self.0.extend([kind, flags]);
        self.0.extend(len.to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(self) -> Packet {
        Packet::from_bytes(Bytes::from(self.0))
    }
}

impl Peer {
    pub(super) fn new(port: u16, engine_port: u16) -> Self {
        Self {
            port,
            engine_port,
            current: Numbers::default(),
            offered: Numbers::default(),
            cookie: Bytes::new(),
            heartbeat: Bytes::new(),
            last_packet: Bytes::new(),
        }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The last packet to the peer, from its IP header on.
    pub(super) fn last_packet(&self) -> &[u8] {
        &self.last_packet
    }

    fn builder(&self, verification_tag: u32) -> Builder {
        let header = CommonHeader {
            source_port: self.port,
            destination_port: self.engine_port,
            verification_tag,
        };
        Builder(header.emit().to_vec())
    }

    /// Octets behind the right header.
    pub(super) fn packet_of(&self, octets: &[u8]) -> Packet {
        let mut builder = self.builder(self.current.engine_tag);
        builder.0.extend(octets);
        builder.finish()
    }

    /// Learns from what the engine sends. `octets` has its IP header.
    pub(super) fn learn(&mut self, octets: &[u8], header: &CommonHeader, chunks: Vec<Chunk>) {
        self.last_packet = Bytes::copy_from_slice(octets);
        for chunk in chunks {
            match chunk {
                Chunk::Init(init) => {
                    self.engine_port = header.source_port;
                    self.current = Numbers {
                        tag: self.current.tag | 1,
                        engine_tag: init.initiate_tag,
                        engine_tsn: init.initial_tsn.wrapping_sub(1),
                        ..self.current
                    };
                }
                Chunk::InitAck(init) if header.verification_tag == self.offered.tag => {
                    self.engine_port = header.source_port;
                    self.offered.engine_tag = init.initiate_tag;
                    self.offered.engine_tsn = init.initial_tsn.wrapping_sub(1);
                    self.cookie = init.parameters.state_cookie.unwrap_or_default();
                }
                Chunk::Data(data) if header.verification_tag == self.current.tag => {
                    let ahead = data.header.tsn.wrapping_sub(self.current.engine_tsn);
                    if ahead < 1 << 31 {
                        self.current.engine_tsn = data.header.tsn;
                    }
                }
                Chunk::Heartbeat(information) => self.heartbeat = information,
                _ => {}
            }
        }
    }

    /// An INIT that begins something new.
    pub(super) fn init(&mut self, input: &mut Input<'_>) -> Packet {
        let (choice, tag) = (input.u8(), input.u8());
        self.offered = Numbers {
            tag: 0x0101_0101 * u32::from(tag.max(1)),
            // Near the wrap, for one half.
            tsn: if choice & 1 == 0 { 0xffff_fff0 } else { 1000 },
            ..Numbers::default()
        };
        let mut value = self.init_value(choice, input);
        if choice & 2 != 0 {
            value.extend([0, 5, 0, 8]);
            value.extend(PEER[1].octets());
        }
        let mut builder = self.builder(0);
        builder.chunk(kind::INIT, 0, &value);
        builder.finish()
    }

    /// The fixed part of an INIT or INIT ACK for what is offered.
    fn init_value(&self, choice: u8, input: &mut Input<'_>) -> Vec<u8> {
        let rwnd = match choice >> 2 & 3 {
            0 => 1500,
            1 => 65_536,
            2 => u32::MAX,
            _ => 1500 + u32::from(input.u16()),
        };
        let mut value = self.offered.tag.to_be_bytes().to_vec();
        value.extend(rwnd.to_be_bytes());
        value.extend([0, 1 + (choice >> 4), 0, 1 + (choice >> 4)]);
        value.extend(self.offered.tsn.to_be_bytes());
        value
    }

    /// The COOKIE ECHO that belongs to the last INIT ACK; the peer goes on with what it had offered.
    pub(super) fn cookie_echo(&mut self) -> Packet {
        self.current = self.offered;
        let mut builder = self.builder(self.current.engine_tag);
        builder.chunk(kind::COOKIE_ECHO, 0, &self.cookie);
        builder.finish()
    }

    /// A SACK of everything that the engine has sent.
    pub(super) fn acknowledge(&self, input: &mut Input<'_>) -> Packet {
        let mut value = self.current.engine_tsn.to_be_bytes().to_vec();
        value.extend((u32::from(input.u16()) << 4).to_be_bytes());
        value.extend([0; 4]);
        let mut builder = self.builder(self.current.engine_tag);
        builder.chunk(kind::SACK, 0, &value);
        builder.finish()
    }

    /// One packet of DATA. The lower bits of `shape` are its flags; the next two say whether there is a gap before it,
    /// and whether its stream sequence number goes on.
    pub(super) fn data_packet(&mut self, shape: u8, len: usize) -> Packet {
        let stream = usize::from(shape >> 6);
        let mut builder = self.builder(self.current.engine_tag);
        self.current.tsn = self.current.tsn.wrapping_add(u32::from(shape >> 4 & 1));
        let header = (self.current.tsn, stream as u16, self.current.ssn[stream]);
        let flags = if shape & 0x20 == 0 { shape & 0xf } else { 3 };
        builder.data(header, flags, &vec![shape; len]);
        self.current.tsn = self.current.tsn.wrapping_add(1);
        if flags & 5 == 1 {
            self.current.ssn[stream] = self.current.ssn[stream].wrapping_add(1);
        }
        builder.finish()
    }

    /// Up to a handful of chunks with a tag that mostly is the right one.
    pub(super) fn chunks(&mut self, choice: u8, input: &mut Input<'_>) -> Packet {
        let numbers = &self.current;
        let tag = match choice % 32 {
            0 => 0,
            1 => numbers.tag,
            2 => numbers.engine_tag.wrapping_add(1),
            3 => self.offered.engine_tag,
            _ => numbers.engine_tag,
        };
        let mut builder = self.builder(tag);
        for _ in 0..1 + (choice >> 5) % MAX_CHUNKS {
            self.chunk(&mut builder, input);
        }
        builder.finish()
    }

    fn chunk(&mut self, builder: &mut Builder, input: &mut Input<'_>) {
        let selector = input.u8();
        let engine_tsn = self.current.engine_tsn;
        match selector % 32 {
            0..=8 => self.data(builder, input),
            9..=13 => builder.chunk(kind::SACK, 0, &self.sack(input)),
            14 => builder.parameter(kind::HEARTBEAT, 1, input),
            15 => builder.chunk(kind::HEARTBEAT_ACK, 0, &self.echoed(input)),
            16 | 17 => {
                let tsn = engine_tsn.wrapping_add_signed(i32::from(input.u8() as i8));
                builder.chunk(kind::SHUTDOWN, 0, &tsn.to_be_bytes());
            }
            18 => builder.chunk(kind::SHUTDOWN_ACK, 0, &[]),
            19 => builder.chunk(kind::SHUTDOWN_COMPLETE, input.u8() & 1, &[]),
            20 => builder.parameter(kind::ABORT, u16::from(input.u8() % 16), input),
            21 => builder.parameter(kind::ERROR, u16::from(input.u8() % 16), input),
            22 => builder.chunk(kind::COOKIE_ECHO, 0, &self.damaged_cookie(input)),
            23 => builder.chunk(kind::COOKIE_ACK, 0, &[]),
            24 => {
                let value = self.init_value(input.u8(), input);
                builder.chunk(kind::INIT, 0, &value);
            }
            25 => builder.chunk(kind::INIT_ACK, 0, &self.init_ack(input)),
            // FORWARD-TSN and I-FORWARD-TSN, I-DATA, RE-CONFIG, ASCONF, AUTH.
            26 => {
                let kind = [192, 194, 64, 130, 193, 15][usize::from(input.u8()) % 6];
                let tsn = self.current.tsn.wrapping_add_signed(input.u8().into());
                builder.chunk(kind, 0, &tsn.to_be_bytes());
            }
            27 => {
                let (kind, flags, len) = (input.u8(), input.u8(), usize::from(input.u8()));
                builder.chunk(kind, flags, input.take(len));
            }
            28 => {
                let (kind, len) = (input.u8(), usize::from(input.u16()) % 8000);
                builder.chunk(kind, 0, &vec![0; len]);
            }
            29 => {
                let len = usize::from(input.u8());
                builder.0.extend(input.take(len));
            }
            30 => builder.chunk(kind::ECNE, 0, &engine_tsn.to_be_bytes()),
            _ => self.adopt_cookie(builder),
        }
    }

    /// The right cookie once more, or that of an INIT ACK that was not answered yet.
    fn adopt_cookie(&mut self, builder: &mut Builder) {
        self.current = self.offered;
        builder.chunk(kind::COOKIE_ECHO, 0, &self.cookie);
    }

    /// DATA at the next TSN or near it; what goes on in order is what the engine waits for.
    fn data(&mut self, builder: &mut Builder, input: &mut Input<'_>) {
        let (choice, flags, offset) = (input.u8(), input.u8(), input.u8());
        let scale = [0, 0, 1, 257][usize::from(choice) % 4];
        let tsn = self
            .current
            .tsn
            .wrapping_add_signed(i32::from(offset as i8) * scale);
        let stream = usize::from(choice >> 2) % 8;
        let ssn = if choice & 0x20 == 0 {
            self.current.ssn[stream]
        } else {
            self.current.ssn[stream].wrapping_add(u16::from(offset))
        };
        // Most streams exist.
        let id = if choice >= 0xf0 {
            u16::from(choice)
        } else {
            stream as u16
        };
        let len = match choice >> 6 {
            0 => usize::from(input.u8()),
            1 => usize::from(input.u8()) * 5,
            _ => 1 + usize::from(offset % 16),
        };
        builder.data((tsn, id, ssn), flags, &vec![offset; len]);
        if scale == 0 {
            self.current.tsn = self.current.tsn.wrapping_add(1);
            if flags & 5 == 1 && choice & 0x20 == 0 {
                self.current.ssn[stream] = ssn.wrapping_add(1);
            }
        }
    }

    fn sack(&self, input: &mut Input<'_>) -> Vec<u8> {
        let choice = input.u8();
        let offset = i32::from(input.u8() as i8) * [0, 1, 1, 1 << 16][usize::from(choice) % 4];
        let cumulative = self.current.engine_tsn.wrapping_add_signed(offset);
        let rwnd = match choice >> 2 & 3 {
            0 => 0,
            1 => u32::MAX,
            _ => u32::from(input.u16()),
        };
        let (blocks, duplicates) = (choice >> 4 & 3, choice >> 6);
        let mut value = cumulative.to_be_bytes().to_vec();
        value.extend(rwnd.to_be_bytes());
        value.extend([0, blocks, 0, duplicates]);
        for _ in 0..blocks {
            let start = u16::from(input.u8());
            value.extend(start.to_be_bytes());
            value.extend(
                start
                    .wrapping_add_signed(i16::from(input.u8() as i8))
                    .to_be_bytes(),
            );
        }
        for _ in 0..duplicates {
            value.extend(cumulative.wrapping_add(u32::from(input.u8())).to_be_bytes());
        }
        value
    }

    /// A HEARTBEAT's information, sent back as it is or damaged.
    fn echoed(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut value = vec![0, 1];
        value.extend((self.heartbeat.len() as u16 + 4).to_be_bytes());
        value.extend(&self.heartbeat);
        if let Some(octet) = value.get_mut(usize::from(input.u8())) {
            *octet ^= input.u8();
        }
        value
    }

    fn damaged_cookie(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut cookie = self.cookie.to_vec();
        let at = usize::from(input.u8());
        if let Some(octet) = cookie.get_mut(at) {
            *octet ^= input.u8();
        }
        if at == 0xff {
            cookie.truncate(usize::from(input.u8()));
        }
        cookie
    }

    /// An INIT ACK, as the answer to an INIT of the engine's.
    fn init_ack(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let choice = input.u8();
        self.current.tag = 0x0303_0303;
        self.current.tsn = 1000;
        let before = std::mem::replace(&mut self.offered, self.current);
        let mut value = self.init_value(choice, input);
        self.offered = before;
        if choice & 1 == 0 {
            value.extend([0, 7, 0, 8, 1, 2, 3, 4]);
        }
        if choice & 2 != 0 {
            value.extend([0, 5, 0, 8]);
            value.extend(PEER[1].octets());
        }
        value
    }
}

impl Builder {
    fn data(&mut self, (tsn, stream, ssn): (u32, u16, u16), flags: u8, payload: &[u8]) {
        let header = DataHeader {
            tsn,
            stream,
            ssn,
            ppid: 0,
            flags: tidewire::wire::sctp::DataFlags::from_bits(flags),
        };
        self.0.extend(header.emit(payload.len()));
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A chunk of one parameter, or cause, of the fuzzer's octets.
    fn parameter(&mut self, kind: u8, parameter: u16, input: &mut Input<'_>) {
        let flags = input.u8() & 1;
        let len = usize::from(input.u8());
        let octets = input.take(len);
        let mut value = parameter.to_be_bytes().to_vec();
        value.extend((octets.len() as u16 + 4).to_be_bytes());
        value.extend(octets);
        self.chunk(kind, flags, &value);
    }
}
