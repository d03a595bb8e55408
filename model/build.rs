//! Builds `native/`, and passes libtorch's folder on to dependent crates (`rpath.rs`) and to this crate's own tests.

use std::path::Path;

/// Instruction sets that the row kernels are built for, beside the portable one.
const X86_SETS: [(&str, &[&str]); 2] = [
    ("avx2", &["-mavx2", "-mfma"]),
    (
        "avx512",
        &["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"],
    ),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=native");
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:libtorch_lib={lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    native(Path::new(&lib), x86);
    rows("portable", &[]);
    if x86 {
        X86_SETS.iter().for_each(|(set, flags)| rows(set, flags));
    }
}

/// The operations themselves, against libtorch's headers.
fn native(lib: &Path, x86: bool) {
    let include = lib.parent().expect("libtorch/lib").join("include");
    let mut build = cpp();
    build
        .files(["native/native.cpp", "native/dispatch.cpp"])
        .includes([include.join("torch/csrc/api/include"), include])
        .flag_if_supported("-Wno-unused-parameter");
    if x86 {
        build.define("SINTERNAL_X86", None);
    }
    // `at::parallel_for` is a template over OpenMP; without it, it runs on one thread.
    if build.get_compiler().is_like_gnu() {
        build.flag("-fopenmp");
        println!("cargo:rustc-link-lib=gomp");
    } else {
        println!("cargo:warning=the C++ compiler is not GCC: the native kernels run on one thread");
    }
    build.compile("sinternal_native");
}

/// The row kernels for one instruction set.
fn rows(set: &str, flags: &[&str]) {
    let mut build = cpp();
    build.file("native/rows.cpp").define("VARIANT", set).flag_if_supported("-fopenmp-simd");
    // Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning.
    for flag in ["-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"] {
        build.flag_if_supported(flag);
    }
    build.flags(flags);
    build.compile(&format!("sinternal_rows_{set}"));
}

fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).debug(false);
    build
}
