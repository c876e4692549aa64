// The state of a launch.
#pragma once
#include <cstdint>
#include <vector>

#include "fibers.hpp"
#include "runtime.hpp"

using namespace emulator;

namespace {

constexpr size_t kStackBytes = 64 * 1024, kGap = size_t(64) << 20;
constexpr unsigned kMostThreads = 1024, kThreadgroupBytes = 32 * 1024, kMostBuffers = 31;
constexpr uint16_t kSeveral = 0xffff;
constexpr uint8_t kSeveralSimdgroups = 0xff;

// As declared in _launch.py.

enum FaultKind : int32_t {
  kNone, kBarrier, kSimd, kBounds, kReadOnly, kThreadgroupMemory, kRace, kUnknownAddress, kNoMemory,
  kUndefined
};

struct Fault {
  int32_t kind, buffer, writes, line, other_line, returned;
  int64_t offset, bytes, address;  // address: of the instruction, from the start of the library
  uint32_t thread[3], other[3];    // positions in the grid
  char text[160];  // the name of the SIMD operation, or what was undefined
};

struct Buffer {
  void* data;  // copied in, and out again if writable
  uint64_t bytes, origin;  // origin: offset of element 0, for negative strides
  uint32_t writable, reserved;
  uint64_t read, written, unique_read, unique_written;  // results
};

struct Launch {
  Buffer* buffers;
  uint32_t count, order, check_races, reserved;  // order: 0 forward, 1 reverse, 2 shuffled
  uint64_t seed;
  Uint3 grid, group;
  uint64_t operations[kOperations];  // results from here
  uint64_t threads, groups, barriers, threadgroup_bytes, threadgroup_read, threadgroup_written;
  Fault fault;
};

enum State : uint8_t { kReady, kAtBarrier, kAtSimd, kDone };

struct Fiber {
  State state;
  int operation, line;
  const char* name;
  size_t bytes;
  unsigned flags, parity;
  Context context;
};

// Who touched a byte last. Epochs grow with every threadgroup and every barrier that orders the
// memory in question, so that an epoch below the threadgroup's first belongs to another one.
struct Access {
  uint32_t epoch, simd_epoch;
  uint16_t thread;
  uint8_t simdgroup, atomic : 1, several_groups : 1;
};

struct Shadow {
  Access writer, reader;
};

struct Region {
  const char *begin, *end;
  Shadow* shadow;
  int buffer;  // -1: threadgroup memory
  int declaration;
  bool writable;
  uint64_t read, written;
};

struct Machine {
  Launch* launch;
  std::vector<Region> buffers, shared;
  void* pointers[kMostBuffers];  // here, not on the heap: kernels read it under the hooks
  Fiber fibers[kMostThreads];
  alignas(16) unsigned char slots[2][kMostThreads][kSlotBytes];
  uint32_t live[2][kMostThreads / kSimdWidth];
  uint32_t simd_epochs[kMostThreads / kSimdWidth];
  char* stacks;
  char* threadgroup;
  std::vector<Shadow> threadgroup_shadow;
  Position position;
  uint64_t random;
  unsigned running, threads;
  uint32_t epoch, group_epoch, device_epoch, threadgroup_epoch;
  const char *image_begin, *image_end;
  Context scheduler;
};

Machine machine;

void resume(unsigned thread) {
  machine.running = thread;
  switch_context(machine.scheduler, machine.fibers[thread].context);
}

void suspend() { switch_context(machine.fibers[machine.running].context, machine.scheduler); }

Position position_of(unsigned thread) {
  Position p = machine.position;
  const Uint3 size = p.group_size;
  p.index = thread;
  p.in_group = {thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
  p.in_grid = {
      p.group.x * p.full_group_size.x + p.in_group.x,
      p.group.y * p.full_group_size.y + p.in_group.y,
      p.group.z * p.full_group_size.z + p.in_group.z};
  return p;
}

}  // namespace
