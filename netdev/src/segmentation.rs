//! TODO segmentation
