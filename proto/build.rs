//! Compiles the .proto files without protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=sinternal");
    let files = ["common", "rollout", "reward", "job"].map(|f| format!("sinternal/v1/{f}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes("sinternal.v1.Chunk.data").compile_fds(descriptors)?;
    Ok(())
}
