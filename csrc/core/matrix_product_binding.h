// torch's matrix products as bindings use them: written where they are wanted, summed up in float32.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <array>

#include "core/tensor_binding.h"

namespace motionops {

// A matrix [rows, columns] in the memory of a contiguous tensor, `first` values after its start: no copy, and nothing
// that autograd knows of.
inline Tensor matrix(const Tensor& memory, int64_t first, int64_t rows, int64_t columns) {
  const int64_t sizes[] = {rows, columns}, strides[] = {columns, 1};
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(memory.get(), 2, sizes, strides, first, &handle));
  return Tensor(handle);
}

// The same memory with rows and columns in each other's place.
inline Tensor transposed(const Tensor& matrix) {
  const int64_t sizes[] = {matrix.size(1), matrix.size(0)}, strides[] = {matrix.stride(1), matrix.stride(0)};
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(matrix.get(), 2, sizes, strides, 0, &handle));
  return Tensor(handle);
}

// out = left . right, in the type of `out`: that of the factors, or float32 for those of 16 bits. By torch's own
// products, which follow its settings for TF32; the forms that write to a given tensor are those that autocast leaves
// alone.
inline void multiply(const Tensor& left, const Tensor& right, const Tensor& out) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  if (left.scalar_type() == out.scalar_type()) {
    std::array<StableIValue, 3> stack{from(left), from(right), from(out)};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION));
    to<Tensor>(stack[0]);  // which names `out` a second time
  } else if (left.is_cuda()) {
    std::array<StableIValue, 4> stack{from(left), from(right), from(out.scalar_type()), from(out)};
    STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::mm", "dtype_out", stack.data(), TORCH_ABI_VERSION));
    to<Tensor>(stack[0]);
  } else {  // the CPU's products have one type
    multiply(torch::stable::to(left, out.scalar_type()), torch::stable::to(right, out.scalar_type()), out);
  }
}

// sums += left . right, on the CPU, all of one type.
inline void add_product_cpu(const Tensor& left, const Tensor& right, const Tensor& sums) {
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_cpu_addmm_out(sums.get(), sums.get(), left.get(), right.get(), /*beta=*/1.0, /*alpha=*/1.0));
}

}  // namespace motionops
