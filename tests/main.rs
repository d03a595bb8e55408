//! Tests across processes: the real binary, real gRPC, real checkpoints.
//!
//! One cluster runs at a time (the machine may have two cores); what needs no cluster runs beside it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like the tests themselves")]

mod audit;
mod browser;
mod commands;
mod data_commands;
mod data_path;
mod durable;
mod eval;
mod eval_chat;
mod eval_inputs;
mod faults;
mod gate;
mod gpu_check;
mod inputs;
mod interrupt;
mod judges;
mod pipeline;
mod prometheus;
mod promql;
mod secured;
mod study;
mod suites;
mod support;
mod watching;
mod web;
