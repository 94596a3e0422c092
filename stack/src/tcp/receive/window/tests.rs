use super::Acceptability::{Acceptable, ControlOnly, Unacceptable};
use super::*;
use proptest::prelude::*;

/// RCV.NXT is `rcv_nxt` and RCV.WND is `window`.
fn window(rcv_nxt: u32, window: u16) -> ReceiveWindow {
    ReceiveWindow::new(SeqNum(rcv_nxt) - 1, 0, usize::from(window), 1000)
}

#[test]
fn acceptability_follows_the_table() {
    // RFC 9293 3.10.7.4: offset from RCV.NXT, SEG.LEN, RCV.WND.
    let cases = [
        // Length 0, window 0: SEG.SEQ = RCV.NXT.
        (0, 0, 0, Acceptable),
        (1, 0, 0, Unacceptable),
        (-1, 0, 0, Unacceptable),
        // Length 0, window open; at the right edge is our deviation.
        (0, 0, 100, Acceptable),
        (99, 0, 100, Acceptable),
        (100, 0, 100, Acceptable),
        (101, 0, 100, Unacceptable),
        (-1, 0, 100, Unacceptable),
        // Length, window 0: not acceptable, but its control bits count.
        (0, 1, 0, ControlOnly),
        (0, 1000, 0, ControlOnly),
        (1, 10, 0, Unacceptable),
        (-1, 1, 0, Unacceptable),
        (-1, 2, 0, Unacceptable),
        // Length and window: first or last octet inside.
        (0, 1, 100, Acceptable),
        (99, 1, 100, Acceptable),
        (99, 1000, 100, Acceptable),
        (100, 1, 100, Unacceptable),
        (-10, 10, 100, Unacceptable),
        (-10, 11, 100, Acceptable),
        (-10, 110, 100, Acceptable),
        (-10, 1000, 100, Acceptable),
        (-1000, 1000, 100, Unacceptable),
        (1 << 30, 10, 100, Unacceptable),
    ];
    for base in [5000, 3, u32::MAX - 3, 1 << 31] {
        for (offset, len, size, expected) in cases {
            let window = window(base, size);
            let sequence = SeqNum(base.wrapping_add_signed(offset));
            assert_eq!(
                window.acceptability(sequence, len),
                expected,
                "{offset} +{len} in {size} at {base}"
            );
        }
    }
}

#[test]
fn segments_are_trimmed_to_the_window() {
    // Offset, payload, FIN, window; skip, kept, FIN kept.
    let cases = [
        (0, 10, true, 100, (0, 10, true)),
        (-4, 10, true, 100, (4, 6, true)),
        (95, 10, true, 100, (0, 5, false)),
        (95, 5, true, 100, (0, 5, true)),
        (100, 0, true, 100, (0, 0, true)),
        (-5, 200, false, 100, (5, 100, false)),
        (-10, 10, false, 100, (10, 0, false)),
        (-10, 10, true, 100, (10, 0, true)),
        (-11, 10, true, 100, (10, 0, false)),
        (0, 10, true, 0, (0, 0, false)),
        (0, 0, true, 0, (0, 0, true)),
        (0, 0, false, 100, (0, 0, false)),
        (200, 10, true, 100, (10, 0, false)),
    ];
    for base in [5000, u32::MAX - 3] {
        for (offset, len, fin, size, expected) in cases {
            let window = window(base, size);
            let trimmed = window.trim(SeqNum(base.wrapping_add_signed(offset)), len, fin);
            assert_eq!(
                (trimmed.skip, trimmed.len, trimmed.fin),
                expected,
                "{offset} +{len} in {size}"
            );
        }
    }
}

#[test]
fn resets_must_hit_exactly() {
    // RFC 5961 3.2; RFC 9293 3.10.7.4 (MAY-12).
    for (offset, expected) in [
        (0, ResetPlacement::Exact),
        (1, ResetPlacement::InWindow),
        (99, ResetPlacement::InWindow),
        (100, ResetPlacement::Outside),
        (-1, ResetPlacement::Outside),
    ] {
        let sequence = SeqNum(77u32.wrapping_add_signed(offset));
        assert_eq!(window(77, 100).place_reset(sequence), expected, "{offset}");
    }
    assert_eq!(window(77, 0).place_reset(SeqNum(77)), ResetPlacement::Exact);
}

#[test]
fn syn_window_is_not_scaled() {
    // RFC 7323 2.2.
    let mut window = ReceiveWindow::new(SeqNum(0), 7, 6 << 20, 1460);
    assert_eq!((syn_window(6 << 20), window.len()), (65_535, 65_535));
    assert_eq!(syn_window(1000), 1000);
    assert_eq!(window.advertise(6 << 20), 49_152);
    assert_eq!(window.len(), 6 << 20);
}

#[test]
fn edge_advances_by_worthwhile_steps_only() {
    // RFC 9293 3.8.6.2.2, MUST-39: min(half the buffer, one segment).
    for (capacity, mss, step) in [(10_000, 1000, 1000), (1000, 1460, 500)] {
        let mut window = ReceiveWindow::new(SeqNum(0), 0, capacity, mss);
        assert_eq!(usize::from(window.advertise(capacity)), capacity);
        window.advance(capacity as u32);
        for (free, offered) in [(0, 0), (step - 1, 0), (step, step), (step + 1, step)] {
            assert_eq!(usize::from(window.advertise(free)), offered, "{free}");
        }
    }
}

#[test]
fn window_update_comes_when_the_window_can_double() {
    let mut window = ReceiveWindow::new(SeqNum(0), 0, 60_000, 1000);
    window.advertise(60_000);
    window.advance(20_000);
    assert!(!window.needs_update(60_000), "most is still promised");
    window.advance(20_000);
    assert!(!window.needs_update(39_999));
    assert!(window.needs_update(40_000));
    window.advance(20_000);
    assert!(window.is_empty());
    assert!(!window.needs_update(999), "a silly window");
    assert!(window.needs_update(1000));
}

#[test]
fn overcommitment_by_rounding_is_bounded() {
    // Octet by octet, each acknowledged, and nobody reads.
    let capacity = 1 << 20;
    let mut window = ReceiveWindow::new(SeqNum(0), 10, capacity, 1460);
    let mut used = 0usize;
    window.advertise(capacity);
    while used < 2 * capacity && !window.is_empty() {
        window.advance(1);
        used += 1;
        window.advertise(capacity.saturating_sub(used));
    }
    assert!(window.is_empty());
    assert!(used <= capacity + capacity / 4 + 1024, "{used}");
}

proptest! {
    #[test]
    fn right_edge_never_moves_left(
        shift in 0u8..=14,
        base: u32,
        steps in prop::collection::vec((0u32..20_000, 0usize..30_000, prop::bool::ANY), 1..200),
    ) {
        // RFC 9293 3.8.6, SHLD-14. Segments of about a kilobyte and more; the reader lags behind by any amount.
        let capacity = 1 << 20;
        let mut window = ReceiveWindow::new(SeqNum(base), shift, capacity, 1460);
        let mut used = 0usize;
        let mut edge = window.right_edge();
        for (arrives, reads, acknowledges) in steps {
            let arrives = arrives.min(window.len() as u32);
            window.advance(arrives);
            used = (used + arrives as usize).saturating_sub(reads);
            prop_assert!(used <= capacity + capacity / 4 + (1 << shift), "{used}");
            if acknowledges {
                let before = edge.saturating_since(window.rcv_nxt()) as usize;
                let field = window.advertise(capacity.saturating_sub(used));
                let announced = window.rcv_nxt() + (u32::from(field) << shift);
                let free = capacity.saturating_sub(used);
                if before + (1 << shift) <= free + capacity / 4 {
                    prop_assert!(announced.at_or_after(edge));
                }
                prop_assert!(announced.at_or_before(window.right_edge()));
                edge = announced;
            }
            prop_assert!(window.right_edge().at_or_after(edge));
        }
    }

    #[test]
    fn trimmed_part_lies_in_the_window(
        base: u32,
        size: u16,
        offset in -70_000i32..140_000,
        len in 0usize..70_000,
        fin: bool,
    ) {
        let window = window(base, size);
        let sequence = SeqNum(base.wrapping_add_signed(offset));
        let trimmed = window.trim(sequence, len, fin);
        prop_assert!(trimmed.skip + trimmed.len <= len);
        prop_assert!(trimmed.sequence.at_or_after(window.rcv_nxt()));
        if trimmed.len > 0 {
            prop_assert_eq!(trimmed.sequence, sequence + trimmed.skip as u32);
            prop_assert!((trimmed.sequence + trimmed.len as u32).at_or_before(window.right_edge()));
            prop_assert_eq!(window.acceptability(sequence, len as u32), Acceptable);
        }
    }
}
