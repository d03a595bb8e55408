//! Fused operations of a layer on the CPU; see `native/`. Each has its own backward.
//!
//! They know float32 and bfloat16. Everything else (CUDA) goes through libtorch's own operations.

use crate::config::ModelConfig;
use crate::packed::Plan;
use std::ffi::{CStr, c_char};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

#[expect(unsafe_code, reason = "declarations of native/native.cpp")]
mod ffi {
    use super::{C_tensor, c_char};

    unsafe extern "C" {
        pub(super) fn sinternal_error() -> *const c_char;
        pub(super) fn sinternal_rms_norm(x: *const C_tensor, w: *const C_tensor, eps: f64) -> *mut C_tensor;
        pub(super) fn sinternal_swiglu(gate_up: *const C_tensor) -> *mut C_tensor;
        pub(super) fn sinternal_rotate(
            x: *const C_tensor,
            positions: *const C_tensor,
            cos: *const C_tensor,
            sin: *const C_tensor,
            heads: i64,
            kv: i64,
            q_norm: *const C_tensor,
            k_norm: *const C_tensor,
            eps: f64,
        ) -> *mut C_tensor;
        pub(super) fn sinternal_attention(
            qkv: *const C_tensor,
            plan: *const C_tensor,
            queries: *const C_tensor,
            keys: *const C_tensor,
            heads: i64,
            kv: i64,
            window: i64,
        ) -> *mut C_tensor;
    }
}

/// These operations know this device and element type.
pub(crate) fn supports(x: &Tensor) -> bool {
    x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// RMS norm of `x` `[n, width]` over its last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    #[expect(unsafe_code, reason = "both tensors outlive the call")]
    owned(unsafe { ffi::sinternal_rms_norm(x.as_ptr(), weight.as_ptr(), eps) })
}

/// `silu(gate) · up` of `[n, 2 · width]`, whose halves they are.
pub(crate) fn swiglu(gate_up: &Tensor) -> Tensor {
    #[expect(unsafe_code, reason = "the tensor outlives the call")]
    owned(unsafe { ffi::sinternal_swiglu(gate_up.as_ptr()) })
}

/// Norms (where there are weights) and rotates the queries and keys of `x` `[n, heads + 2 · kv, head_dim]`; values stay.
pub(crate) fn rotate(
    x: &Tensor,
    positions: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    norms: Option<&(Tensor, Tensor)>,
    config: &ModelConfig,
) -> Tensor {
    let null = std::ptr::null();
    let (q_norm, k_norm) = norms.map_or((null, null), |(q, k)| (q.as_ptr(), k.as_ptr()));
    #[expect(unsafe_code, reason = "all tensors outlive the call; a null norm is allowed")]
    owned(unsafe {
        ffi::sinternal_rotate(
            x.as_ptr(),
            positions.as_ptr(),
            cos.as_ptr(),
            sin.as_ptr(),
            config.heads,
            config.kv_heads,
            q_norm,
            k_norm,
            config.norm_eps,
        )
    })
}

/// Causal attention over the buckets of a pack: `[n, heads + 2 · kv, head_dim]` to `[n, heads · head_dim]`.
pub(crate) fn attention(qkv: &Tensor, plan: &Plan, config: &ModelConfig, window: Option<i64>) -> Tensor {
    #[expect(unsafe_code, reason = "all tensors outlive the call")]
    owned(unsafe {
        ffi::sinternal_attention(
            qkv.as_ptr(),
            plan.buckets.as_ptr(),
            plan.queries.as_ptr(),
            plan.keys.as_ptr(),
            config.heads,
            config.kv_heads,
            window.unwrap_or(0),
        )
    })
}

/// # Panics
/// With the C++ side's message, as tch's own operations do.
fn owned(result: *mut C_tensor) -> Tensor {
    #[expect(
        unsafe_code,
        reason = "a tensor that the C++ side gives away, or null with a message of this thread"
    )]
    unsafe {
        assert!(!result.is_null(), "{}", CStr::from_ptr(ffi::sinternal_error()).to_string_lossy());
        Tensor::from_ptr(result)
    }
}
