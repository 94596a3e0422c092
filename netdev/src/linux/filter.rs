//! What the kernel decides about packets for a packet socket, as classic BPF programs
//! (`Documentation/networking/filter.rst`): which ones come, and to which queue.

use std::ffi::c_int;

use super::sys::packet_socket::Instruction;
use crate::flow_hash::MULTIPLIER;
use crate::mac::MacAddress;

/// Lets nothing through: for a socket that is not ready yet.
pub(super) fn nothing() -> Vec<Instruction> {
    let mut program = Assembler::default();
    program.op(libc::BPF_RET | libc::BPF_K, 0);
    program.finish()
}

/// Lets through what a station of that address on this link receives: frames for itself, broadcasts and groups.
///
/// A frame of a VLAN is refused: AF_PACKET strips its tag, so that it would pass for one without (its TCI comes apart
/// from it, with `PACKET_AUXDATA`). A tag of VLAN 0 carries only a priority (IEEE 802.1Q 9.6), and its frame is let
/// through.
///
/// Without an address, all frames on the link, whoever they are for.
pub(super) fn station(address: Option<MacAddress>) -> Vec<Instruction> {
    let mut program = Assembler::default();
    // Kernels before 4.20 do not know PACKET_IGNORE_OUTGOING: our own frames must not come back.
    program.load_field(libc::SKF_AD_PKTTYPE);
    program.jump_equal(u32::from(libc::PACKET_OUTGOING), "refuse", "");
    program.load_field(libc::SKF_AD_VLAN_TAG_PRESENT);
    program.jump_equal(0, "untagged", "");
    program.load_field(libc::SKF_AD_VLAN_TAG);
    program.jump_set(0x0fff, "refuse", "");
    program.label("untagged");
    match address.map(|address| address.0) {
        Some([a, b, c, d, e, f]) => {
            program.load(libc::BPF_B, 0);
            program.jump_set(1, "accept", "");
            program.load(libc::BPF_W, 0);
            program.jump_equal(u32::from_be_bytes([a, b, c, d]), "", "refuse");
            program.load(libc::BPF_H, 4);
            program.jump_equal(u32::from(u16::from_be_bytes([e, f])), "accept", "refuse");
        }
        None => program.jump_always("accept"),
    }
    program.label("refuse");
    program.op(libc::BPF_RET | libc::BPF_K, 0);
    program.label("accept");
    // The most octets: all of them.
    program.op(libc::BPF_RET | libc::BPF_K, u32::MAX);
    program.finish()
}

/// Computes [`packet_flow_hash`](crate::flow_hash::packet_flow_hash) of a frame, for `PACKET_FANOUT_CBPF`.
///
/// A fanout program sees packets from the network header on, and a load beyond a packet's end gives 0, as
/// `packet_flow_hash` does for headers that are not whole.
pub(super) fn flow_hash() -> Vec<Instruction> {
    const ADDRESSES: u32 = 0;
    const TRANSPORT: u32 = 1;
    const PORTS: u32 = 2;
    let mut program = Assembler::default();
    program.load_field(libc::SKF_AD_PROTOCOL);
    program.jump_equal(libc::ETH_P_IP as u32, "ip", "");
    program.jump_equal(libc::ETH_P_IPV6 as u32, "ip", "other");
    program.label("ip");
    program.load(libc::BPF_B, 0);
    program.op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4);
    program.jump_equal(4, "v4", "");
    program.jump_equal(6, "v6", "other");

    program.label("v4");
    program.fold_words(12, 20);
    program.op(libc::BPF_ST, ADDRESSES);
    program.op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0);
    program.op(libc::BPF_STX, TRANSPORT);
    program.load(libc::BPF_H, 6);
    program.jump_set(0x3fff, "no ports", "");
    program.load(libc::BPF_B, 9);
    program.jump_always("protocol");

    program.label("v6");
    program.fold_words(8, 40);
    program.op(libc::BPF_ST, ADDRESSES);
    program.op(libc::BPF_LD | libc::BPF_IMM, 40);
    program.op(libc::BPF_ST, TRANSPORT);
    program.load(libc::BPF_B, 6);

    program.label("protocol");
    program.jump_equal(libc::IPPROTO_TCP as u32, "ports", "");
    program.jump_equal(libc::IPPROTO_UDP as u32, "ports", "");
    program.jump_equal(libc::IPPROTO_SCTP as u32, "ports", "no ports");
    program.label("ports");
    program.op(libc::BPF_LD | libc::BPF_MEM, TRANSPORT);
    program.op(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 4);
    program.op(libc::BPF_MISC | libc::BPF_TAX, 0);
    program.op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0);
    program.jump_at_least_x("", "no ports");
    program.op(libc::BPF_LDX | libc::BPF_MEM, TRANSPORT);
    program.op(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, 0);
    program.op(libc::BPF_ST, PORTS);
    program.op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16);
    program.op(libc::BPF_LDX | libc::BPF_MEM, PORTS);
    program.op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
    program.op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xffff);
    program.op(libc::BPF_LDX | libc::BPF_MEM, ADDRESSES);
    program.op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
    program.jump_always("mix");

    program.label("no ports");
    program.op(libc::BPF_LD | libc::BPF_MEM, ADDRESSES);
    program.label("mix");
    program.op(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, MULTIPLIER);
    program.op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16);
    program.op(libc::BPF_RET | libc::BPF_A, 0);
    program.label("other");
    program.op(libc::BPF_RET | libc::BPF_K, 0);
    program.finish()
}

/// Puts a program together; jumps go forward to labels, `""` being the next instruction.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    jumps: Vec<Jump>,
    labels: Vec<(&'static str, usize)>,
}

struct Jump {
    at: usize,
    if_true: &'static str,
    if_false: &'static str,
}

impl Assembler {
    fn op(&mut self, code: u32, k: u32) {
        // All codes are 16 bits wide.
        let code = code as u16;
        self.code.push(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        });
    }

    /// Loads octets of the packet: one, two or four, as `size` says.
    fn load(&mut self, size: u32, at: u32) {
        self.op(libc::BPF_LD | size | libc::BPF_ABS, at);
    }

    /// Loads what the kernel knows of the packet (`SKF_AD_*`).
    fn load_field(&mut self, field: c_int) {
        self.load(libc::BPF_W, (libc::SKF_AD_OFF + field) as u32);
    }

    /// Loads the exclusive or of the 32-bit words from `start` to `end`.
    fn fold_words(&mut self, start: u32, end: u32) {
        self.load(libc::BPF_W, start);
        for at in (start + 4..end).step_by(4) {
            self.op(libc::BPF_MISC | libc::BPF_TAX, 0);
            self.load(libc::BPF_W, at);
            self.op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0);
        }
    }

    fn jump_equal(&mut self, value: u32, if_true: &'static str, if_false: &'static str) {
        self.jump(libc::BPF_JEQ | libc::BPF_K, value, if_true, if_false);
    }

    fn jump_set(&mut self, bits: u32, if_true: &'static str, if_false: &'static str) {
        self.jump(libc::BPF_JSET | libc::BPF_K, bits, if_true, if_false);
    }

    fn jump_at_least_x(&mut self, if_true: &'static str, if_false: &'static str) {
        self.jump(libc::BPF_JGE | libc::BPF_X, 0, if_true, if_false);
    }

    fn jump_always(&mut self, to: &'static str) {
        // At least 0 is everything.
        self.jump(libc::BPF_JGE | libc::BPF_K, 0, to, to);
    }

    fn jump(&mut self, code: u32, k: u32, if_true: &'static str, if_false: &'static str) {
        self.jumps.push(Jump {
            at: self.code.len(),
            if_true,
            if_false,
        });
        self.op(libc::BPF_JMP | code, k);
    }

    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.code.len()));
    }

    fn finish(mut self) -> Vec<Instruction> {
        for jump in &self.jumps {
            let distance = |name: &str| {
                if name.is_empty() {
                    return 0;
                }
                let label = self.labels.iter().find(|(label, _)| *label == name);
                let (_, to) = label.expect("every jump of these programs has its label");
                u8::try_from(to - jump.at - 1).expect("these programs are short")
            };
            let (jt, jf) = (distance(jump.if_true), distance(jump.if_false));
            self.code[jump.at].jt = jt;
            self.code[jump.at].jf = jf;
        }
        self.code
    }
}

#[cfg(test)]
mod tests;
