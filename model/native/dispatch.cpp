// Chooses the row kernels that this processor runs.
#include "rows.h"

namespace sinternal {

#define DECLARE(set)                       \
  namespace set {                          \
  template <typename T>                    \
  const RowKernels<T>& kernels();          \
  }

DECLARE(portable)
#ifdef SINTERNAL_X86
DECLARE(avx2)
DECLARE(avx512)
#endif

template <typename T>
const RowKernels<T>& row_kernels() {
#ifdef SINTERNAL_X86
  static const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool medium = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (wide) return avx512::kernels<T>();
  if (medium) return avx2::kernels<T>();
#endif
  return portable::kernels<T>();
}

template const RowKernels<float>& row_kernels<float>();
template const RowKernels<Bf16>& row_kernels<Bf16>();

}  // namespace sinternal
