//! Build script of every crate that links libtorch: binaries find the library they were linked against
//! without LD_LIBRARY_PATH.

#[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
fn main() {
    println!("cargo:rerun-if-changed=../model/rpath.rs");
    if let Ok(lib) = std::env::var("DEP_SINTERNAL_MODEL_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
