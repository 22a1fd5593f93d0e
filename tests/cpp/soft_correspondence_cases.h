// soft_correspondence in another way, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include "geometry/soft_correspondence.h"
#include "region_contrast_cases.h"

namespace soft_correspondence_cases {

using motionops::Grid;
using motionops::SoftCorrespondence;

// Random views that overlap along every axis.
inline std::vector<double> overlapping_views(const std::vector<double>& others, std::mt19937& generator) {
  std::vector<double> views;
  for (size_t place = 0; place < others.size(); place += 2) {
    double start, end;
    do {
      const std::vector<double> drawn = region_contrast_cases::random_views(1, generator);
      start = drawn[0], end = drawn[1];
    } while (std::max(start, end) <= std::min(others[place], others[place + 1]) ||
             std::min(start, end) >= std::max(others[place], others[place + 1]));
    views.insert(views.end(), {start, end});
  }
  return views;
}

template <typename T, typename Launch>
void run_case(int64_t batch, const Grid& query_grid, const Grid& key_grid, const Launch& launch) {
  std::mt19937 generator(static_cast<unsigned>(batch + query_grid.count()));
  const std::vector<double> query = region_contrast_cases::random_views(batch, generator);
  // one alone may not overlap at all, and a result of zeros shows little
  const std::vector<double> key =
      batch == 1 ? overlapping_views(query, generator) : region_contrast_cases::random_views(batch, generator);
  const int64_t rows = query_grid.count(), columns = key_grid.count();
  std::vector<T> result(batch * rows * columns, NAN);
  launch(SoftCorrespondence{query.data(), key.data(), batch, query_grid, key_grid, sizeof(T) == 8, result.data()});
  for (int64_t place = 0; place < batch * rows * columns; ++place) {
    const int64_t j = place % columns, i = place / columns % rows, b = place / columns / rows;
    const double expected =
        region_contrast_cases::share(query.data() + b * 6, query_grid, i, key.data() + b * 6, key_grid, j);
    CHECK(close_to(result[place], expected, sizeof(T) == 8 ? 1e-11 : 1e-6), "%ld: %g for %g", place,
          static_cast<double>(result[place]), expected);
  }
}

// A mirrored view of the same place, with cells as large or half as large: what only touches shares exactly nothing.
template <typename Launch>
void run_touching(const Launch& launch) {
  std::mt19937 generator(11);
  constexpr int64_t kBatch = 3;
  const std::vector<double> query = region_contrast_cases::random_views(kBatch, generator);
  std::vector<double> key = query;
  for (size_t axis = 0; axis < key.size(); axis += 2) std::swap(key[axis], key[axis + 1]);
  for (const int64_t parts : {1, 2}) {
    const Grid query_grid{{2, 3, 7}}, key_grid{{2 * parts, 3 * parts, 7 * parts}};
    const int64_t rows = query_grid.count(), columns = key_grid.count();
    std::vector<double> result(kBatch * rows * columns, NAN);
    launch(SoftCorrespondence{query.data(), key.data(), kBatch, query_grid, key_grid, true, result.data()});
    for (int64_t place = 0; place < kBatch * rows * columns; ++place) {
      const int64_t j = place % columns, i = place / columns % rows;
      bool inside = true;
      for (int axis = 0; axis < 3; ++axis) {
        inside &= (key_grid.cells[axis] - 1 - key_grid.along(axis, j)) / parts == query_grid.along(axis, i);
      }
      const double wanted = inside ? 1.0 / static_cast<double>(parts * parts * parts) : 0;
      CHECK(close_to(result[place], wanted, 1e-12 * wanted), "%ld: %g for %g", place, result[place], wanted);
    }
  }
}

// `few` leaves out what adds threads and not paths.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  run_case<float>(3, {{2, 3, 5}}, {{4, 3, 2}}, launch);
  run_case<double>(2, {{1, 2, 3}}, {{2, 2, 2}}, launch);
  run_touching(launch);
  // beyond what the CUDA kernel takes at once: key cells along x; query cells along x; key cells along t and y
  run_case<float>(1, {{1, 1, 2}}, {{1, 2, 601}}, launch);
  run_case<double>(1, {{2, 1, 9}}, {{1, 3, 511}}, launch);
  run_case<float>(1, {{1, 1, 2}}, {{3, 700, 1}}, launch);
  if (few) return;
  run_case<double>(1, {{1, 1, 2}}, {{2, 43900, 6}}, launch);  // more tiles than blocks
  run_case<float>(0, {{1, 1, 1}}, {{1, 1, 1}}, launch);
  run_case<float>(1, {{1, 1, 1}}, {{1, 1, 1}}, launch);
  run_case<float>(5, {{2, 3, 5}}, {{4, 3, 2}}, launch);
  run_case<double>(5, {{3, 1, 4}}, {{1, 6, 5}}, launch);
  run_case<float>(2, {{2, 2, 7}}, {{8, 14, 14}}, launch);
  run_case<double>(3, {{1, 3, 130}}, {{2, 40, 67}}, launch);
}

}  // namespace soft_correspondence_cases
