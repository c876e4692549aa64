// What a translated kernel (compiled with memory instrumentation) asks of the runtime.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

struct Uint3 {
  unsigned int x, y, z;
};

struct Position {  // of the running thread; the names follow Metal's attributes
  Uint3 in_grid, in_group, group, group_size, full_group_size, grid, groups;
  unsigned int index, threads;  // in the threadgroup
};

constexpr unsigned kSimdWidth = 32;
constexpr size_t kSlotBytes = 32;  // the largest value a SIMD operation exchanges

enum Operation : int {  // counted per thread
  kLoad, kStore, kThreadgroupLoad, kThreadgroupStore, kAtomic, kThreadgroupBarrier,
  kSimdgroupBarrier, kBallot, kReduce, kPrefixSum, kShuffle, kBroadcast, kPopcount, kCountZeros,
  kMath, kOperations
};

}  // namespace emulator

extern "C" {
// Memory shared by the threadgroup, one block per declaration.
void* emulator_threadgroup(int declaration, size_t bytes, int is_float, int line);
void emulator_barrier(unsigned flags, int line);
void emulator_simdgroup_barrier(int line);
// Every live lane of the SIMD-group arrives with a value; returns the values of all 32 lanes,
// kSlotBytes apart, and which of them are live.
const unsigned char* emulator_exchange(
    int operation, const char* name, const void* value, size_t bytes, int line, uint32_t* live);
unsigned emulator_lane();
void emulator_count(int operation);
[[noreturn]] void emulator_vector_index(int index, int size);
[[noreturn]] void emulator_past_the_end();
void emulator_atomic(const void* address, size_t bytes, int reads, int writes);

// Defined by the translated kernel: one thread, from its first line to its last.
void emulator_thread(void** buffers, const emulator::Position* position);
}
