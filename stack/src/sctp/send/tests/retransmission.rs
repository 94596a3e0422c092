//! What is sent again is what was sent, each TSN as it was.

use super::*;

#[test]
fn retransmission_is_the_same_chunk() {
    // RFC 9260 6.3.3, 6.9: TSN, stream, SSN, PPID, ends and data.
    let mut rig = Rig::eager();
    rig.open_window(10);
    let options = SendOptions {
        stream: 3,
        ppid: 0xdead_beef,
        unordered: true,
        ..SendOptions::default()
    };
    let message: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
    rig.sender
        .enqueue(Bytes::from(message.clone()), &options, &rig.paths)
        .unwrap();
    let first: Vec<Data> = rig.flush().into_iter().flat_map(|p| p.chunks).collect();
    let mut again = Vec::new();
    rig.fire_t3(rig.id(0));
    loop {
        let packets = rig.flush();
        if packets.is_empty() {
            break;
        }
        again.extend(packets.into_iter().flat_map(|p| p.chunks));
        let last = again.last().unwrap().header.tsn;
        rig.sack(last, &[]);
    }
    assert_eq!(again.len(), 4);
    for (first, again) in first.iter().zip(&mut again) {
        let immediate = DataFlags::IMMEDIATE;
        if !first.header.flags.contains(immediate) && again.header.flags.contains(immediate) {
            // 6.1: why it is set is irrelevant.
            again.header.flags = first.header.flags;
        }
        assert_eq!(first, again);
    }
    let whole: Vec<u8> = again
        .iter()
        .flat_map(|data| data.payload.to_vec())
        .collect();
    assert_eq!(whole, message);
}

#[test]
fn chunks_are_slices_of_the_message() {
    // No copy on the way out: the same memory, first and again.
    let mut rig = Rig::eager();
    rig.open_window(10);
    let message = Bytes::from(vec![1; 4000]);
    let start = message.as_ptr() as usize;
    rig.sender
        .enqueue(message, &SendOptions::default(), &rig.paths)
        .unwrap();
    let check = |packets: Vec<Packet>| {
        for data in packets.iter().flat_map(|packet| &packet.chunks) {
            let at = data.payload.as_ptr() as usize - start;
            assert_eq!(at, (data.header.tsn as usize - 1) * FULL);
        }
    };
    check(rig.flush());
    rig.fire_t3(rig.id(0));
    check(rig.flush());
}

#[test]
fn what_was_acknowledged_since_it_was_marked_is_not_sent_again() {
    let mut rig = Rig::eager();
    rig.open_window(10);
    for _ in 0..10 {
        rig.enqueue(FULL);
    }
    rig.flush();
    rig.fire_t3(rig.id(0));
    assert_eq!(rig.flush_tsns(), [[1]]);
    rig.sack(3, &[(2, 3), (5, 5)]); // 5, 6 and 8 arrived after all
    let mut sent = rig.flush_tsns().concat();
    rig.sack(6, &[(2, 2)]);
    sent.extend(rig.flush_tsns().concat());
    rig.sack(8, &[]);
    sent.extend(rig.flush_tsns().concat());
    assert_eq!(sent, [4, 7, 9, 10]);
}

#[test]
fn timeouts_of_the_same_chunk_do_not_pile_up() {
    let mut rig = Rig::eager();
    for _ in 0..3 {
        rig.enqueue(FULL);
    }
    rig.flush();
    for _ in 0..9 {
        rig.fire_t3(rig.id(0));
        assert_eq!(rig.flush_tsns(), [[1]]);
    }
    rig.sack(1, &[]);
    assert_eq!(rig.flush_tsns(), [[2], [3]], "each once");
}
