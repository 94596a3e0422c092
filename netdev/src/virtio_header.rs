//! TODO virtio_header
