//! Test doubles for this crate's tests and, with the feature `testing`, for those of others.

mod fake_chat;
mod scripted;

pub use fake_chat::{FakeChatServer, Seen};
pub use scripted::Scripted;
