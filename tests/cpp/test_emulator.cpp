// The emulator itself, and the host twins of the device helpers: what CUDA promises, and that misuse is reported.
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "core/cp_async.h"
#include "core/launch.h"
#include "core/ldmatrix.h"
#include "core/mma.h"
#include "core/warp.h"

namespace {

using namespace motionops;

void collectives_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32), thread = static_cast<int>(threadIdx.x);
  int wrong = 0;
  wrong += __shfl_xor_sync(kAllLanes, thread, 5) != (thread ^ 5);
  wrong += __shfl_sync(kAllLanes, lane, 3, 8) != lane / 8 * 8 + 3;
  wrong += __shfl_down_sync(kAllLanes, lane, 4) != (lane < 28 ? lane + 4 : lane);
  wrong += __shfl_up_sync(kAllLanes, lane, 4) != (lane >= 4 ? lane - 4 : lane);
  wrong += __ballot_sync(kAllLanes, lane % 3 == 0) != 0x49249249u;
  wrong += __any_sync(kAllLanes, lane == 7) != 1;
  wrong += __all_sync(kAllLanes, lane != 7) != 0;
  wrong += __reduce_add_sync(kAllLanes, lane) != 496;
  wrong += __reduce_max_sync(kAllLanes, lane) != 31;
  if (lane < 8) wrong += __reduce_add_sync(0xffu, lane) != 28;  // a part of a warp
  wrong += warp_sum(lane) != 496;
  wrong += lanes_max<4>(static_cast<float>(lane)) != static_cast<float>(lane / 4 * 4 + 3);
  __shared__ int per_warp[2];
  wrong += block_sum(1, per_warp) != 64;
  wrong += __syncthreads_count(threadIdx.x < 40) != 40;
  atomicAdd(out, wrong);
}

void reverse_kernel(int* values) {
  auto* shared = reinterpret_cast<int*>(dynamic_shared_memory());
  const unsigned thread = threadIdx.x;
  if (shared[thread] != -1) atomicAdd(values, 1000);  // fresh shared memory holds a pattern
  shared[thread] = values[thread + 1 + blockIdx.x * blockDim.x];
  __syncthreads();
  values[thread + 1 + blockIdx.x * blockDim.x] = shared[blockDim.x - 1 - thread];
}

void diverging_kernel(int) {
  if (threadIdx.x != 5) __syncthreads();
}
void leaving_kernel(int) {
  if (threadIdx.x < 3) return;
  __syncwarp();
}
void disagreeing_kernel(int) { __shfl_sync(threadIdx.x == 0 ? kAllLanes : 0xfffffffeu, 1, 1); }
void excluded_kernel(int) { __syncwarp(0xfffffffeu); }
void misaligned_kernel(int) { copy_async<16>(dynamic_shared_memory() + 4, dynamic_shared_memory(), true); }

void expect_error(void (*kernel)(int), const std::string& text) {
  try {
    (void)launch(kernel, dim3(1), dim3(32), 64, nullptr, 0);
    CHECK(false, "nothing was reported for '%s'", text.c_str());
  } catch (const emulator::Error& error) {
    CHECK(std::string(error.what()).find(text) != std::string::npos, "reported '%s'", error.what());
  }
}

// out[0..3]: the word before the wait, after it, and of two copies of which only one was waited for.
void copies_kernel(const int* source, int* out) {
  auto* shared = reinterpret_cast<int*>(dynamic_shared_memory());
  copy_async<4>(shared, source, true);
  commit_copies();
  out[0] = shared[0];
  wait_copies<0>();
  out[1] = shared[0];
  copy_async<4>(shared, source + 1, true);
  commit_copies();
  copy_async<4>(shared + 1, source + 2, false);
  commit_copies();
  wait_copies<1>();
  out[2] = shared[0];
  out[3] = shared[1];
  wait_copies<0>();
  out[4] = shared[1];
}

void nothing_kernel(int) {}

cudaError_t launch_with(size_t shared_bytes) {
  return launch(nothing_kernel, dim3(1), dim3(1), shared_bytes, nullptr, 0);
}

// How much dynamic shared memory a kernel may have belongs to the kernel, not to a launch of it.
void check_shared_memory() {
  {
    std::atomic<int> refused = 0;
    const auto start = [&](size_t shared_bytes) { refused += launch_with(shared_bytes) != cudaSuccess; };
    std::unique_lock device_is_busy(emulator::launch_mutex);  // both threads come as far as their launch
    std::thread large(start, 70 << 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::thread small(start, 60 << 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    device_is_busy.unlock();
    large.join();
    small.join();
    CHECK(refused == 0, "%d of the launches of two host threads", refused.load());
  }

  const auto check_device = [](int device, int most, size_t of_its_own) {
    emulator::current_device = device;
    emulator::shared_bytes_of_a_block = most;
    emulator::static_shared_bytes = of_its_own;
    const size_t left = static_cast<size_t>(most) - of_its_own;
    CHECK(launch_with(left) == cudaSuccess, "all of %d bytes, %zu its own", most, of_its_own);
    CHECK(launch_with(left + 1) == cudaErrorInvalidValue, "more than %d bytes, %zu its own", most, of_its_own);
  };
  check_device(1, 166912, 0);  // sm_80
  check_device(2, 101376, 0);  // sm_86, sm_89, sm_120
  check_device(3, 232448, 4096);
  CHECK(launch_with(47 << 10) == cudaSuccess, "48 KB together with its own");
  check_device(0, 232448, 0);
}

void check_grids() {
  const auto extent = [](dim3 grid) { return uint64_t{grid.x} * grid.y * grid.z; };
  CHECK(extent(grid_of(7)) == 7 && extent(grid_of(0x7fffffff)) == 0x7fffffff, "grids that exist");
  CHECK(grid_of(5, 3).x == 5 && grid_of(5, 3).y == 1 && grid_of(5, 3).z == 3, "blocks along z");
  for (const int64_t blocks : {int64_t{-1}, int64_t{0}, int64_t{1} << 31, (int64_t{1} << 32) + 1, INT64_MAX}) {
    const cudaError_t error = launch(nothing_kernel, grid_of(blocks), dim3(1), 0, nullptr, 0);
    CHECK(error == cudaErrorInvalidConfiguration, "%lld blocks", static_cast<long long>(blocks));
  }
  for (const int64_t along_z : {0, 0x10000}) CHECK(extent(grid_of(1, along_z)) == 0, "too many along z");
}

float value(int row, int column) { return static_cast<float>((row * 7 + column * 3) % 11 - 5); }

// d = a b for a [16, depth] and b [depth, 8], b stored by columns, through ldmatrix and mma.
template <typename Operand, int kDepth>
void product_kernel(float* d) {
  constexpr bool kTf32 = std::is_same_v<Operand, Tf32Operand>;
  constexpr int kBytes = kTf32 ? 4 : 2;
  alignas(16) static unsigned char a[16 * kDepth * kBytes], b[16 * kDepth * kBytes];
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * kDepth; i += 32) {
    const float of_a = value(i / kDepth, i % kDepth), of_b = value(i % kDepth, i / kDepth);
    if constexpr (kTf32) {
      reinterpret_cast<float*>(a)[i] = of_a;
      reinterpret_cast<float*>(b)[i] = of_b;
    } else {
      const uint32_t words[2] = {pack(Operand{}, of_a, 0.0f), pack(Operand{}, of_b, 0.0f)};
      std::memcpy(a + 2 * i, &words[0], 2);
      std::memcpy(b + 2 * i, &words[1], 2);
    }
  }
  __syncwarp();
  uint32_t of_a[4], of_b[4];
  load_matrices(of_a, a + lane % 16 * kDepth * kBytes + lane / 16 * 16);
  load_matrices(of_b, b + (lane / 16 * 8 + lane % 8) * kDepth * kBytes + lane / 8 % 2 * 16);
  float sum[4] = {};
  mma(Operand{}, sum, of_a, of_b[0], of_b[1]);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

template <typename Operand, int kDepth>
void check_product() {
  std::vector<float> d(16 * 8, NAN);
  CHECK(launch(product_kernel<Operand, kDepth>, dim3(1), dim3(32), 0, nullptr, d.data()) == cudaSuccess, "launch");
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float expected = 0;
      for (int k = 0; k < kDepth; ++k) expected += value(row, k) * value(k, column);
      CHECK(d[row * 8 + column] == expected, "(%d, %d): %g for %g", row, column, d[row * 8 + column], expected);
    }
  }
}

// 1 or -1 and three quarters of the distance to the next number away from zero, which is the nearest; the unit cuts.
void cut_kernel(float* d) {
  const float sign = threadIdx.x / 4 % 2 == 0 ? 1.0f : -1.0f;
  const float small = std::ldexp(1.5f, -12);
  const uint32_t a[4] = {pack(Bfloat16Operand{}, sign * small, 0.0f), 0, 0, 0};
  float sum[4] = {sign, sign, sign, sign};
  mma(Bfloat16Operand{}, sum, a, pack(Bfloat16Operand{}, std::ldexp(1.0f, -14), 0.0f), 0);
  d[threadIdx.x] = sum[0];
}

void check_cut() {
  std::vector<float> d(32, NAN);
  CHECK(launch(cut_kernel, dim3(1), dim3(32), 0, nullptr, d.data()) == cudaSuccess, "launch");
  for (int lane = 0; lane < 32; ++lane)
    CHECK(d[lane] == (lane / 4 % 2 == 0 ? 1.0f : -1.0f), "lane %d: %.9g", lane, d[lane]);
}

void check_conversions() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const __half half{static_cast<uint16_t>(bits)};
    const __nv_bfloat16 bfloat16{static_cast<uint16_t>(bits)};
    const float of_half = __half2float(half), of_bfloat16 = __bfloat162float(bfloat16);
    CHECK(std::isnan(of_half) || __float2half_rn(of_half).bits == bits, "half %x", bits);
    CHECK(std::isnan(of_bfloat16) || __float2bfloat16_rn(of_bfloat16).bits == bits, "bfloat16 %x", bits);
  }
  CHECK(__float2half_rn(65519.0f).bits == 0x7bff, "below the largest half");
  CHECK(__float2half_rn(65520.0f).bits == 0x7c00, "rounds to infinity");
  CHECK(__float2half_rn(2049.0f).bits == 0x6800, "a tie goes to even");
  CHECK(__float2half_rn(std::ldexp(1.0f, -25)).bits == 0, "a tie with zero");
  CHECK(__float2half_rn(std::ldexp(1.5f, -25)).bits == 1, "a subnormal");
  CHECK(__float2bfloat16_rn(1.00390625f).bits == 0x3f80, "a tie goes to even");
  CHECK(__uint_as_float(to_tf32(1.0f + std::ldexp(1.0f, -11))) == 1.0f + std::ldexp(1.0f, -10),
        "a tie goes away from zero");
}

}  // namespace

int main() {
  int wrong = 0;
  CHECK(launch(collectives_kernel, dim3(2), dim3(64), 0, nullptr, &wrong) == cudaSuccess, "launch");
  CHECK(wrong == 0, "%d collectives", wrong);

  std::vector<int> values(1 + 3 * 40);
  for (int i = 0; i < 120; ++i) values[i + 1] = i;
  CHECK(launch(reverse_kernel, dim3(3), dim3(40), 160, nullptr, values.data()) == cudaSuccess, "launch");
  CHECK(values[0] == 0, "shared memory of a block before it");
  for (int i = 0; i < 120; ++i) CHECK(values[i + 1] == i / 40 * 40 + 39 - i % 40, "element %d", i);

  expect_error(diverging_kernel, "deadlock");
  expect_error(leaving_kernel, "deadlock");
  expect_error(disagreeing_kernel, "deadlock");
  expect_error(excluded_kernel, "mask leaves it out");
  expect_error(misaligned_kernel, "misaligned");
  CHECK(launch(diverging_kernel, dim3(1), dim3(1025), 0, nullptr, 0) == cudaErrorInvalidConfiguration, "threads");
  CHECK(launch(diverging_kernel, dim3(0), dim3(32), 0, nullptr, 0) == cudaErrorInvalidConfiguration, "empty grid");
  CHECK(launch(diverging_kernel, dim3(1), dim3(32), 1 << 20, nullptr, 0) == cudaErrorInvalidValue, "shared memory");

  check_shared_memory();
  check_grids();

  const int source[3] = {7, 8, 9};
  int words[5] = {};
  CHECK(launch(copies_kernel, dim3(1), dim3(1), 8, nullptr, source, words) == cudaSuccess, "launch");
  CHECK(words[0] == -1 && words[1] == 7, "a copy ends at its wait: %d, %d", words[0], words[1]);
  CHECK(words[2] == 8 && words[3] == -1 && words[4] == 0, "the latest group stays open: %d, %d, %d", words[2], words[3],
        words[4]);

  check_product<Bfloat16Operand, 16>();
  check_product<Float16Operand, 16>();
  check_product<Tf32Operand, 8>();
  check_cut();
  check_conversions();
  return finish("emulator");
}
