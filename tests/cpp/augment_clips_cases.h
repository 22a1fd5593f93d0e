// augment_clips in double, pixel by pixel, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "views/augment_clips.h"

namespace augment_clips_cases {

using motionops::AugmentClips;
using motionops::AugmentVideo;
using motionops::Dtype;
using Planes = std::array<std::vector<double>, 3>;

inline double unit(double value) { return std::clamp(value, 0.0, 1.0); }
inline double gray(const Planes& x, size_t i) { return 0.2989 * x[0][i] + 0.587 * x[1][i] + 0.114 * x[2][i]; }

// One channel of one output pixel of the crop, in 0..1.
inline double crop(const AugmentVideo& video, const float* extent, int64_t t, const AugmentClips& args, int64_t pixel,
                   int64_t c) {
  const auto position = [](double start, double end, int64_t i, int64_t size, int64_t length) {
    const double place = (start + (end - start) * (i + 0.5) / static_cast<double>(size)) * length - 0.5;
    return std::clamp(place, 0.0, static_cast<double>(length - 1));
  };
  const double y = position(extent[2], extent[3], pixel / args.width, args.height, video.height),
               x = position(extent[4], extent[5], pixel % args.width, args.width, video.width);
  double sum = 0;
  for (int64_t i = 0; i < video.height; ++i) {
    for (int64_t j = 0; j < video.width; ++j) {
      const double weight = std::max(0.0, 1 - std::fabs(y - i)) * std::max(0.0, 1 - std::fabs(x - j));
      sum += weight * video.frames[t * video.stride_t + i * video.stride_y + j * video.stride_x + c * video.stride_c];
    }
  }
  return sum / 255;
}

// Through the hexagon of hues, sector by sector.
inline std::array<double, 3> turned_hue(double red, double green, double blue, double turns) {
  const double largest = std::max({red, green, blue}), chroma = largest - std::min({red, green, blue});
  if (chroma == 0) return {red, green, blue};
  double hue = largest == red     ? (green - blue) / chroma
               : largest == green ? 2 + (blue - red) / chroma
                                  : 4 + (red - green) / chroma;
  hue = hue / 6 + turns;
  hue = 6 * (hue - std::floor(hue));
  const int sector = static_cast<int>(hue) % 6;
  const double within = hue - std::floor(hue), least = largest - chroma;
  const double falling = largest - chroma * within, rising = least + chroma * within;
  switch (sector) {
    case 0:
      return {largest, rising, least};
    case 1:
      return {falling, largest, least};
    case 2:
      return {least, largest, rising};
    case 3:
      return {least, falling, largest};
    case 4:
      return {rising, least, largest};
    default:
      return {largest, least, falling};
  }
}

inline Planes expected(const AugmentClips& args, const AugmentVideo& video, int64_t b, int64_t t) {
  const int64_t height = args.height, width = args.width, before = (t + args.frames - 1) % args.frames;
  const float* extent = static_cast<const float*>(args.extents) + 6 * b;
  Planes planes;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t i = 0; i < height * width; ++i) {
      double value = crop(video, extent, t, args, i, c);
      if (args.difference) value = (value - crop(video, extent, before, args, i, c) + 1) / 2;
      planes[c].push_back(value);
    }
  }
  const size_t pixels = planes[0].size();
  if (args.jitter != nullptr) {
    const float* jitter = static_cast<const float*>(args.jitter) + 4 * b;
    for (int k = 0; k < 4; ++k) {
      const int64_t step = args.order[4 * b + k];
      if (step == 3) {
        for (size_t i = 0; i < pixels; ++i) {
          const auto turned = turned_hue(planes[0][i], planes[1][i], planes[2][i], jitter[3]);
          for (int c = 0; c < 3; ++c) planes[c][i] = turned[c];
        }
        continue;
      }
      double mean = 0;
      for (size_t i = 0; i < pixels; ++i) mean += gray(planes, i) / static_cast<double>(pixels);
      for (size_t i = 0; i < pixels; ++i) {
        const double base = step == 0 ? 0 : step == 1 ? mean : gray(planes, i), factor = jitter[step];
        for (auto& plane : planes) plane[i] = unit(factor * plane[i] + (1 - factor) * base);
      }
    }
    for (size_t i = 0; args.grayscale[b] && i < pixels; ++i)
      planes[0][i] = planes[1][i] = planes[2][i] = gray(planes, i);
    const double sigma = static_cast<const float*>(args.blur_sigma)[b];
    const int64_t radius = args.blur_kernel / 2;
    const auto reflected = [](int64_t i, int64_t size) { return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i; };
    std::vector<double> weights;
    for (int64_t k = -radius; sigma > 0 && k <= radius; ++k) {
      weights.push_back(std::exp(-0.5 * static_cast<double>(k * k) / (sigma * sigma)));
    }
    const auto weight = [&](int64_t k) { return weights[k + radius]; };
    for (int64_t c = 0; sigma > 0 && c < 3; ++c) {
      const std::vector<double> sharp = planes[c];
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          double sum = 0, total = 0;
          for (int64_t i = -radius; i <= radius; ++i) {
            for (int64_t j = -radius; j <= radius; ++j) {
              sum += weight(i) * weight(j) * sharp[reflected(y + i, height) * width + reflected(x + j, width)];
              total += weight(i) * weight(j);
            }
          }
          planes[c][y * width + x] = sum / total;
        }
      }
    }
  }
  for (int64_t c = 0; c < 3; ++c) {
    for (double& value : planes[c]) value = (value - args.mean[c]) * args.scale[c];
  }
  return planes;
}

struct Case {
  int64_t frames, size, kernel;  // size: height, and width where none is given
  bool difference, look, listed, planar;
  int64_t offset = 0;  // of the output's memory, in elements
  int64_t width = 0;
};

template <typename T, typename Launch>
void run_case(Dtype dtype, const Case& chosen, double tolerance, const Launch& launch) {
  constexpr int64_t kBatch = 3;
  std::mt19937 generator(5);
  std::uniform_real_distribution<float> uniform(0, 1);
  const int64_t sides[kBatch][2] = {{7, 9}, {chosen.listed ? 1 : 7, chosen.listed ? 4 : 9}, {7, 9}};
  // allocated to the byte, so that reading or writing past it is seen
  std::unique_ptr<uint8_t[]> memory[kBatch];
  int64_t bytes[kBatch];
  std::vector<AugmentVideo> videos;
  std::unique_ptr<uint8_t[]> together(new uint8_t[kBatch * chosen.frames * 7 * 9 * 3]);
  for (int64_t b = 0; b < kBatch; ++b) {
    const auto [height, width] = sides[b];
    bytes[b] = chosen.frames * height * width * 3;
    memory[b] = std::make_unique<uint8_t[]>(bytes[b]);
    for (int64_t i = 0; i < bytes[b]; ++i) memory[b][i] = static_cast<uint8_t>(generator());
    if (!chosen.listed) std::copy_n(memory[b].get(), bytes[b], together.get() + b * bytes[0]);
    const uint8_t* first = chosen.listed ? memory[b].get() : together.get() + b * bytes[0];
    const int64_t area = height * width;
    videos.push_back(chosen.planar ? AugmentVideo{first, height, width, 3 * area, width, 1, area}
                                   : AugmentVideo{first, height, width, 3 * area, 3 * width, 3, 1});
  }
  using Real = motionops::Wide<T>;
  std::vector<float> extents(kBatch * 6), jitter(kBatch * 4), sigma{0.0f, chosen.kernel > 30 ? 9.0f : 1.3f, 0.4f};
  for (float& value : extents) value = 1.4f * uniform(generator) - 0.2f;
  for (float& value : jitter) value = 0.5f + uniform(generator);
  for (int64_t b = 0; b < kBatch; ++b) jitter[4 * b + 3] = b == 0 ? 0 : uniform(generator) - 0.5f;
  const std::vector<int64_t> order{0, 1, 2, 3, 2, 3, 0, 1, 1, 2, 3, 0};
  const bool grayscale[kBatch] = {false, false, true};
  const int64_t width = chosen.width == 0 ? chosen.size : chosen.width, pixels = chosen.size * width;
  const int64_t values = kBatch * 3 * chosen.frames * pixels;
  const std::unique_ptr<T[]> output_memory(new T[chosen.offset + values]);
  T* output = output_memory.get() + chosen.offset;

  AugmentClips args{};
  args.dtype = dtype;
  args.videos = chosen.listed ? videos.data() : nullptr;
  args.common = videos[0];
  args.stride_b = bytes[0];
  args.output = output;
  args.batch = kBatch;
  args.frames = chosen.frames;
  args.height = chosen.size;
  args.width = width;
  args.blur_kernel = chosen.kernel;
  for (int c = 0; c < 3; ++c) {
    args.mean[c] = 0.4 + 0.1 * c;
    args.scale[c] = 1 / (0.5 + 0.1 * c);
  }
  args.difference = chosen.difference;
  args.order = order.data();
  args.grayscale = grayscale;
  AugmentClips given = args;  // with parameters in the launcher's type
  const std::vector<Real> real_extents(extents.begin(), extents.end()), real_jitter(jitter.begin(), jitter.end()),
      real_sigma(sigma.begin(), sigma.end());
  given.extents = real_extents.data();
  args.extents = extents.data();
  if (chosen.look) {
    given.jitter = real_jitter.data();
    given.blur_sigma = real_sigma.data();
    args.jitter = jitter.data();
    args.blur_sigma = sigma.data();
  }
  launch(given);
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t t = 0; t < chosen.frames; ++t) {
      const Planes wanted = expected(args, videos[b], b, t);
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t i = 0; i < pixels; ++i) {
          const double got = motionops::widen(output[((b * 3 + c) * chosen.frames + t) * pixels + i]);
          CHECK(close_to(got, wanted[c][i], tolerance), "clip %d, frame %d, channel %d, pixel %d: %g instead of %g",
                static_cast<int>(b), static_cast<int>(t), static_cast<int>(c), static_cast<int>(i), got, wanted[c][i]);
        }
      }
    }
  }
}

// launch(args) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  const Case everything{2, 6, 5, true, true, true, false};
  run_case<float>(Dtype::kFloat32, everything, 1e-5, launch);
  // more than one tile of the CUDA kernel, and halves of vectors
  run_case<float>(Dtype::kFloat32, {1, 36, 7, false, true, false, false}, 1e-5, launch);
  if (few) return;
  for (const Case& chosen : {everything, Case{1, 36, 7, false, true, false, false}}) {
    run_case<double>(Dtype::kFloat64, chosen, 1e-6, launch);  // the expectation's parameters are float32
    run_case<motionops::BFloat16>(Dtype::kBFloat16, chosen, 2e-2, launch);
    run_case<motionops::Float16>(Dtype::kFloat16, chosen, 2e-3, launch);
  }
  for (const Case& chosen :
       {Case{1, 1, 1, false, true, false, false}, Case{3, 35, 3, true, true, false, true},
        Case{2, 5, 9, false, true, true, true}, Case{2, 33, 65, false, true, false, false},
        Case{3, 4, 3, false, false, false, false}, Case{1, 9, 3, true, false, true, false},
        Case{1, 36, 7, false, true, false, true, 1}, Case{1, 133, 5, false, true, false, false},
        Case{1, 90, 31, true, true, false, false}, Case{1, 70, 139, false, true, false, false},
        Case{2, 5, 5, true, true, true, false, 0, 37}, Case{1, 66, 3, false, true, false, true, 0, 2},
        Case{1, 24, 47, true, true, false, false, 0, 130}}) {
    run_case<float>(Dtype::kFloat32, chosen, 1e-5, launch);
  }
}

}  // namespace augment_clips_cases
