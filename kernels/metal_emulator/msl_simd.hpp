// Barriers, SIMD operations and atomics of the Metal Shading Language; included by msl.hpp.
#pragma once
#include "msl.hpp"

namespace metal {

enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(unsigned(a) | unsigned(b));
}
inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE()) {
  emulator_barrier(unsigned(flags), line);
}
inline void simdgroup_barrier(mem_flags, int line = __builtin_LINE()) {
  emulator_simdgroup_barrier(line);
}

template <class T> T poison() {  // what hardware leaves undefined
  T value;
  std::memset(&value, is_floating<T> ? 0xff : 0xa5, sizeof value);
  return value;
}

template <class T> struct Lanes {  // the values of a SIMD-group
  const unsigned char* slots;
  uint32_t live;
  Lanes(emulator::Operation operation, const char* name, T value, int line) {
    static_assert(sizeof(T) <= emulator::kSlotBytes, "too large for a SIMD operation");
    slots = emulator_exchange(operation, name, &value, sizeof value, line, &live);
  }
  T operator[](uint lane) const {
    if (lane >= emulator::kSimdWidth || !(live >> lane & 1)) return poison<T>();
    T value;
    std::memcpy(&value, slots + lane * emulator::kSlotBytes, sizeof value);
    return value;
  }
  template <class F> T fold(uint end, T result, bool started, F f) const {
    for (uint lane = 0; lane < end; ++lane) {
      if (!(live >> lane & 1)) continue;
      result = started ? T(f(result, (*this)[lane])) : (*this)[lane];
      started = true;
    }
    return result;
  }
};

#define MSL_REDUCE(name, expression)                                                          \
  template <class T> T name(T value, int line = __builtin_LINE()) {                           \
    return Lanes<T>(emulator::kReduce, __func__, value, line)                                           \
        .fold(32, value, false, [](T a, T b) { return expression; });                         \
  }
MSL_REDUCE(simd_sum, a + b) MSL_REDUCE(simd_product, a* b)
MSL_REDUCE(simd_min, min(a, b)) MSL_REDUCE(simd_max, max(a, b))
MSL_REDUCE(simd_or, a | b) MSL_REDUCE(simd_and, a& b) MSL_REDUCE(simd_xor, a ^ b)

#define MSL_PREFIX(name, expression, start)                                                   \
  template <class T> T simd_prefix_exclusive_##name(T value, int line = __builtin_LINE()) {   \
    return Lanes<T>(emulator::kPrefixSum, __func__, value, line)                                        \
        .fold(emulator_lane(), T(start), true, [](T a, T b) { return expression; });          \
  }                                                                                           \
  template <class T> T simd_prefix_inclusive_##name(T value, int line = __builtin_LINE()) {   \
    return Lanes<T>(emulator::kPrefixSum, __func__, value, line)                                        \
        .fold(emulator_lane() + 1, T(start), true, [](T a, T b) { return expression; });      \
  }
MSL_PREFIX(sum, a + b, 0) MSL_PREFIX(product, a* b, 1)

struct simd_vote {
  typedef uint64_t vote_t;
  vote_t votes, live;
  explicit operator vote_t() const { return votes; }
  bool all() const { return votes == live; }
  bool any() const { return votes != 0; }
};
inline simd_vote simd_ballot(bool value, int line = __builtin_LINE()) {
  const Lanes<bool> lanes(emulator::kBallot, __func__, value, line);
  simd_vote vote = {0, lanes.live};
  for (uint lane = 0; lane < emulator::kSimdWidth; ++lane)
    if (lanes.live >> lane & 1) vote.votes |= uint64_t(lanes[lane]) << lane;
  return vote;
}
inline bool simd_all(bool value, int line = __builtin_LINE()) { return simd_ballot(value, line).all(); }
inline bool simd_any(bool value, int line = __builtin_LINE()) { return simd_ballot(value, line).any(); }
inline simd_vote simd_active_threads_mask(int line = __builtin_LINE()) { return simd_ballot(true, line); }
inline bool simd_is_first(int line = __builtin_LINE()) {
  return __builtin_ctzll(simd_ballot(true, line).votes) == int(emulator_lane());
}

template <class T> T simd_broadcast(T value, ushort lane, int line = __builtin_LINE()) {
  return Lanes<T>(emulator::kBroadcast, __func__, value, line)[lane];
}
template <class T> T simd_broadcast_first(T value, int line = __builtin_LINE()) {
  const Lanes<T> lanes(emulator::kBroadcast, __func__, value, line);
  return lanes[__builtin_ctz(lanes.live)];
}
template <class T> T simd_shuffle(T value, ushort lane, int line = __builtin_LINE()) {
  return Lanes<T>(emulator::kShuffle, __func__, value, line)[lane];
}
template <class T> T simd_shuffle_xor(T value, ushort mask, int line = __builtin_LINE()) {
  return Lanes<T>(emulator::kShuffle, __func__, value, line)[emulator_lane() ^ mask];
}
template <class T> T simd_shuffle_down(T value, ushort by, int line = __builtin_LINE()) {
  const Lanes<T> lanes(emulator::kShuffle, __func__, value, line);
  const uint lane = emulator_lane() + by;  // the last `by` lanes keep their value
  return lane < emulator::kSimdWidth ? lanes[lane] : value;
}
template <class T> T simd_shuffle_up(T value, ushort by, int line = __builtin_LINE()) {
  const Lanes<T> lanes(emulator::kShuffle, __func__, value, line);
  return emulator_lane() >= by ? lanes[emulator_lane() - by] : value;
}
template <class T> T simd_shuffle_rotate_down(T value, ushort by, int line = __builtin_LINE()) {
  return Lanes<T>(emulator::kShuffle, __func__, value, line)[(emulator_lane() + by) % 32];
}
template <class T> T simd_shuffle_rotate_up(T value, ushort by, int line = __builtin_LINE()) {
  return Lanes<T>(emulator::kShuffle, __func__, value, line)[(emulator_lane() + 32 - by % 32) % 32];
}

// ------------------------------------------------------------------------------------- atomics

enum memory_order { memory_order_relaxed };
template <class T> struct atomic {
  static_assert(sizeof(T) == 4, "an M1 has atomics of 32 bits only");
  T value;
  atomic() = default;
  atomic& operator=(const atomic&) = delete;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;

// Seen by the runtime as one atomic access, not as the plain loads and stores they are here.
#define MSL_ATOMIC template <class T> __attribute__((noinline, no_sanitize_thread))
#define MSL_FETCH(name, expression)                                                           \
  MSL_ATOMIC T atomic_##name##_explicit(volatile atomic<T>* p, same<T> b, memory_order) {     \
    emulator_atomic((const void*)p, sizeof(T), 1, 1);                                         \
    const T a = p->value;                                                                     \
    p->value = expression;                                                                    \
    return a;                                                                                 \
  }
MSL_FETCH(fetch_add, a + b) MSL_FETCH(fetch_sub, a - b)
MSL_FETCH(fetch_or, a | b) MSL_FETCH(fetch_and, a& b) MSL_FETCH(fetch_xor, a ^ b)
MSL_FETCH(fetch_max, a < b ? b : a) MSL_FETCH(fetch_min, b < a ? b : a) MSL_FETCH(exchange, b)
MSL_ATOMIC T atomic_load_explicit(const volatile atomic<T>* p, memory_order) {
  emulator_atomic((const void*)p, sizeof(T), 1, 0);
  return p->value;
}
MSL_ATOMIC void atomic_store_explicit(volatile atomic<T>* p, same<T> b, memory_order) {
  emulator_atomic((const void*)p, sizeof(T), 0, 1);
  p->value = b;
}
MSL_ATOMIC bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* p, T* expected, same<T> desired, memory_order, memory_order) {
  emulator_atomic((const void*)p, sizeof(T), 1, 1);
  const T old = p->value;
  const bool equal = std::memcmp(&old, expected, sizeof old) == 0;
  if (equal) p->value = desired;
  *expected = old;
  return equal;
}

}  // namespace metal
