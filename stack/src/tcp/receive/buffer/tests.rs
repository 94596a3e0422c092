use super::*;
use proptest::prelude::*;

fn octets(start: usize, len: usize) -> Bytes {
    (start..start + len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn large_slices_are_kept_by_reference_and_small_ones_copied() {
    for (len, kept) in [(COPY_BELOW - 1, false), (COPY_BELOW, true)] {
        let slice = octets(0, len);
        let mut buffer = ReceiveBuffer::new();
        buffer.push_slice(slice.clone());
        let read = buffer.read_chunk(usize::MAX).unwrap();
        assert_eq!(read.as_ptr() == slice.as_ptr(), kept, "{len}");
    }
}

#[test]
fn small_part_of_a_large_slice_does_not_hold_it() {
    // Overlapping segments of 64 KiB, each with little new, would otherwise cost many times what they are charged.
    let slice = octets(0, 65_000);
    for (len, kept) in [(5000, false), (20_000, true)] {
        let mut buffer = ReceiveBuffer::new();
        buffer.push_part(&slice, 100..100 + len);
        let read = buffer.read_chunk(usize::MAX).unwrap();
        assert_eq!(read, slice.slice(100..100 + len));
        assert_eq!(read.as_ptr() == slice[100..].as_ptr(), kept, "{len}");
    }
}

#[test]
fn emptied_buffer_owns_nothing() {
    let mut buffer = ReceiveBuffer::new();
    for len in [10, 5000, 10, 20_000] {
        buffer.push_slice(octets(0, len));
    }
    assert!(buffer.charged() >= buffer.len());
    buffer.advance(usize::MAX);
    assert_eq!((buffer.len(), buffer.charged()), (0, 0));
    assert_eq!((buffer.chunks.capacity(), buffer.tail.capacity()), (0, 0));
}

#[test]
fn many_small_slices_become_few_chunks() {
    let mut buffer = ReceiveBuffer::new();
    for i in 0..100_000 {
        buffer.push_slice(octets(i, 1));
    }
    assert!(buffer.chunks.len() < 16, "{}", buffer.chunks.len());
    assert!(buffer.charged() < 300_000, "{}", buffer.charged());
    let mut buffer = ReceiveBuffer::new();
    for i in (0..100_000).rev() {
        buffer.push_front(octets(i, 1));
    }
    assert!(buffer.chunks.len() < 64, "{}", buffer.chunks.len());
    assert!(buffer.charged() < 200_000, "{}", buffer.charged());
    let mut all = vec![0; 100_000];
    assert_eq!(buffer.read(&mut all), 100_000);
    assert_eq!(all, octets(0, 100_000));
}

#[test]
fn vectored_read_fills_one_buffer_after_the_other() {
    let mut buffer = ReceiveBuffer::new();
    buffer.push_slice(octets(0, 10));
    let (mut a, mut b, mut c) = ([0; 4], [0; 0], [0; 20]);
    let n = buffer.read_vectored(&mut [
        IoSliceMut::new(&mut a),
        IoSliceMut::new(&mut b),
        IoSliceMut::new(&mut c),
    ]);
    assert_eq!(n, 10);
    assert_eq!(
        (&a[..], &c[..6]),
        (&[0, 1, 2, 3][..], &[4, 5, 6, 7, 8, 9][..])
    );
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    PushFront(usize),
    Append(Vec<usize>),
    Prepend(Vec<usize>),
    Read(usize),
    ReadChunk(usize),
    Peek(usize),
    Advance(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![0..40usize, 1000..2000usize, 4090..4100usize, 0..70_000usize];
    prop_oneof![
        4 => len().prop_map(Step::Push),
        1 => len().prop_map(Step::PushFront),
        1 => prop::collection::vec(len(), 0..4).prop_map(Step::Append),
        1 => prop::collection::vec(len(), 0..4).prop_map(Step::Prepend),
        2 => len().prop_map(Step::Read),
        1 => len().prop_map(Step::ReadChunk),
        1 => len().prop_map(Step::Peek),
        1 => len().prop_map(Step::Advance),
    ]
}

fn other(lens: &[usize], model: &mut Vec<u8>, seed: &mut usize) -> ReceiveBuffer {
    let mut other = ReceiveBuffer::new();
    for len in lens {
        *seed += 7;
        other.push_slice(octets(*seed, *len));
        model.extend_from_slice(&octets(*seed, *len));
    }
    other
}

proptest! {
    #[test]
    fn behaves_like_a_byte_queue(steps in prop::collection::vec(step(), 1..60)) {
        let mut buffer = ReceiveBuffer::new();
        let mut model: Vec<u8> = Vec::new();
        let mut seed = 0;
        for step in steps {
            seed += 13;
            match step {
                Step::Push(len) => {
                    buffer.push_slice(octets(seed, len));
                    model.extend_from_slice(&octets(seed, len));
                }
                Step::PushFront(len) => {
                    buffer.push_front(octets(seed, len));
                    model.splice(0..0, octets(seed, len));
                }
                Step::Append(lens) => buffer.append(other(&lens, &mut model, &mut seed)),
                Step::Prepend(lens) => {
                    let mut front = Vec::new();
                    buffer.prepend(other(&lens, &mut front, &mut seed));
                    model.splice(0..0, front);
                }
                Step::Read(len) => {
                    let mut out = vec![0; len];
                    let n = buffer.read(&mut out);
                    prop_assert_eq!(n, len.min(model.len()));
                    prop_assert_eq!(&out[..n], &model.drain(..n).collect::<Vec<_>>()[..]);
                }
                Step::ReadChunk(max) => {
                    let chunk = buffer.read_chunk(max).unwrap_or_default();
                    prop_assert!(chunk.len() <= max);
                    prop_assert_eq!(chunk.is_empty(), max == 0 || model.is_empty());
                    prop_assert_eq!(&chunk[..], &model.drain(..chunk.len()).collect::<Vec<_>>()[..]);
                }
                Step::Peek(len) => {
                    let mut out = vec![0; len];
                    let n = buffer.peek(&mut out);
                    prop_assert_eq!(n, len.min(model.len()));
                    prop_assert_eq!(&out[..n], &model[..n]);
                }
                Step::Advance(n) => {
                    buffer.advance(n);
                    model.drain(..n.min(model.len()));
                }
            }
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), buffer.charged() == 0);
            let sum: usize = buffer.chunks.iter().map(|c| c.charge).sum::<usize>() + buffer.tail_charge;
            prop_assert_eq!(buffer.charged(), sum);
        }
    }
}
