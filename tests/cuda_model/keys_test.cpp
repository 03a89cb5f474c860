// SPDX-License-Identifier: Apache-2.0
// Keys made of keys and of generators.
#include <gtest/gtest.h>

#include "../../cuda/kernels.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

std::vector<uint64_t> some_keys(int64_t count) {
  std::vector<uint64_t> keys;
  for (int64_t i = 0; i < count; ++i) {
    const math::Key key = math::fold_in({9, 1}, static_cast<uint64_t>(i));
    keys.insert(keys.end(), {key.seed, key.offset});
  }
  return keys;
}

void note_kernels() {
  for (const auto& launch : cuda_model::take_launches()) tally().kernels.insert(launch.kernel);
}

TEST(KeysOnModel, FoldInIsTheHosts) {
  for (const int64_t count : {0, 1, 5, 300})
    for (const int64_t per_key : {0, 1, 3, 257})
      for (const int64_t first : {int64_t{0}, int64_t{-2}, int64_t{1} << 40}) {
        ++tally().cases;
        const std::vector<uint64_t> keys = some_keys(count);
        std::vector<uint64_t> out(2 * count * per_key), wanted;
        cuda::fold_in(keys.data(), count, first, per_key, out.data(), nullptr);
        for (int64_t i = 0; i < per_key; ++i)
          for (int64_t k = 0; k < count; ++k) {
            const math::Key key =
                math::fold_in({keys[2 * k], keys[2 * k + 1]}, static_cast<uint64_t>(first) + i);
            wanted.insert(wanted.end(), {key.seed, key.offset});
          }
        ASSERT_EQ(out, wanted) << count << " keys, " << per_key << " each, from " << first;
      }
  note_kernels();
}

TEST(KeysOnModel, FoldInReadsANumberOnTheDevice) {
  const uint64_t number = 0xFEDCBA9876543210;
  const std::vector<uint64_t> keys = some_keys(300);
  std::vector<uint64_t> out(600), wanted;
  cuda::fold_in(keys.data(), 300, &number, out.data(), nullptr);
  for (int64_t k = 0; k < 300; ++k) {
    const math::Key key = math::fold_in({keys[2 * k], keys[2 * k + 1]}, number);
    wanted.insert(wanted.end(), {key.seed, key.offset});
  }
  EXPECT_EQ(out, wanted);
  note_kernels();
}

template <typename T>
void check_noise_at(bool device_keys) {
  ++tally().cases;
  const std::vector<uint64_t> keys = some_keys(3);
  std::vector<int64_t> index;
  for (int64_t i = 0; i < 3 * 2 * 150; ++i) index.push_back(i * 7919 % 1'000'003 - 1);
  std::vector<T> out(index.size());
  NoiseAtParams a;
  a.index = index.data(), a.output = out.data();
  a.keys = device_keys ? keys.data() : nullptr, a.host_key = {9, 4};
  a.count = 900, a.per_key = device_keys ? 300 : 900, a.per_row = 150, a.classes = 1'000'000;
  cuda::noise_at(a, sizeof(T) == 8, nullptr);
  for (int64_t i = 0; i < 900; ++i) {
    const T wanted = math::noise_at<T>(a, i);
    if (index[i] < 0 || index[i] >= a.classes)
      ASSERT_NE(out[i], out[i]);
    else
      ASSERT_EQ(out[i], wanted) << i;
  }
}

TEST(KeysOnModel, NoiseAtIsTheHosts) {
  for (const bool device_keys : {false, true}) {
    check_noise_at<float>(device_keys);
    check_noise_at<double>(device_keys);
  }
  note_kernels();
}

TEST(KeysOnModel, AReservationGivesTheHostsKey) {
  const int64_t device_seed = -3, device_offset = int64_t{1} << 33;
  const struct {
    cuda::Reservation reservation;
    math::Key wanted;
  } cases[] = {
      {{.seed = 5, .offset = 40}, math::fold_in({5, 0}, 10)},
      {{.seed = 5, .offset = 8, .device_seed = &device_seed, .device_offset = &device_offset},
       math::fold_in({static_cast<uint64_t>(-3), 0}, (uint64_t{1} << 31) + 2)}};
  for (const auto& [reservation, wanted] : cases) {
    uint64_t key[2];
    cuda::write_key(reservation, key, nullptr);
    EXPECT_EQ(key[0], wanted.seed);
    EXPECT_EQ(key[1], wanted.offset);
  }
  note_kernels();
}

TEST(KeysOnModel, NothingIsLaunchedForNothing) {
  cuda_model::take_launches();
  for (const Op op : kAllOps) {
    KernelParams a;
    a.rows.classes = 5;
    launch(op, a);
    a.rows.classes = 0;
    a.rows.count = 5;
    launch(op, a);
  }
  EXPECT_TRUE(cuda_model::take_launches().empty());
}

}  // namespace
}  // namespace torch_gumbel::testing
