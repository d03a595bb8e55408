//! Choosing a device; loading libtorch's CUDA half where one is asked for.

use crate::ModelError;
use std::ffi::{CStr, CString};
use std::path::PathBuf;
use tch::Device;

/// Threads of libtorch's intra-operation pool in this process.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// Parses `cpu`, `cuda` or `cuda:<index>`, and makes sure that it works.
///
/// The linker drops `libtorch_cuda.so` because nothing here names a symbol of it, so it is opened by hand, before
/// the first CUDA query of the process (libtorch looks its hooks up once).
///
/// # Errors
/// An unknown spelling; CUDA libraries that are absent or fail to load; a device index that is not there.
pub fn parse_device(text: &str) -> Result<Device, ModelError> {
    let fail = |problem: String| ModelError::Device { device: text.into(), problem };
    let index = match text.split_once(':') {
        None if text == "cpu" => return Ok(Device::Cpu),
        None if text == "cuda" => 0,
        Some(("cuda", index)) => {
            index.parse::<usize>().map_err(|_| fail("the index is not a number".into()))?
        }
        _ => return Err(fail("expected cpu, cuda or cuda:<index>".into())),
    };
    open_cuda().map_err(&fail)?;
    let count = tch::Cuda::device_count();
    if !tch::Cuda::is_available() || index as i64 >= count {
        return Err(fail(format!("libtorch sees {count} CUDA devices")));
    }
    Ok(Device::Cuda(index))
}

/// Opens the CUDA half that lies beside the CPU half this process runs on.
fn open_cuda() -> Result<(), String> {
    let lib = cpu_library_folder()?.join("libtorch_cuda.so");
    let path = CString::new(lib.display().to_string()).map_err(|e| e.to_string())?;
    #[expect(
        unsafe_code,
        reason = "dlopen of libtorch's own library; it stays open for the life of the process"
    )]
    let error = unsafe {
        if libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            Some(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned())
        } else {
            None
        }
    };
    match error {
        None => Ok(()),
        Some(why) => {
            Err(format!("failed to load {}: {why}; `cargo xtask setup --cuda` fetches it", lib.display()))
        }
    }
}

fn cpu_library_folder() -> Result<PathBuf, String> {
    let maps = std::fs::read_to_string("/proc/self/maps")
        .map_err(|e| format!("failed to read /proc/self/maps: {e}"))?;
    let line =
        maps.lines().find(|l| l.ends_with("/libtorch_cpu.so")).ok_or("libtorch_cpu.so is not loaded")?;
    let path = line.find('/').map(|at| PathBuf::from(&line[at..])).ok_or("no path in /proc/self/maps")?;
    path.parent().map(Into::into).ok_or_else(|| "libtorch_cpu.so has no folder".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_parses_and_unknown_names_say_what_is_expected() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        let error = parse_device("tpu").unwrap_err().to_string();
        assert_eq!(error, "device `tpu`: expected cpu, cuda or cuda:<index>");
        assert!(parse_device("cuda:x").unwrap_err().to_string().contains("not a number"));
    }
}
