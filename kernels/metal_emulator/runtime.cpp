// Runs a translated Metal kernel: one fiber per thread, one threadgroup at a time.
//
// Barriers and SIMD operations are rendez-vous of fibers. The kernel is compiled with the memory
// instrumentation of -fsanitize=thread, but linked with the hooks below instead of that sanitizer:
// every access is looked up before it happens, counted, and checked for bounds and for races.
// What -fsanitize=bounds, object-size and the like find goes to hooks here too, not to libubsan.
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "memory.hpp"

using namespace emulator;

namespace {

void fiber_main() {
  const Position position = position_of(machine.running);
  emulator_thread(machine.pointers, &position);
  machine.fibers[machine.running].state = kDone;
  suspend();
}

void prepare(unsigned thread) {
  Fiber& fiber = machine.fibers[thread];
  fiber.state = kReady;
  fiber.parity = 0;
  prepare_context(fiber.context, machine.stacks + thread * kStackBytes, kStackBytes, fiber_main);
}

bool at_same_place(const Fiber& a, const Fiber& b) {
  return a.line == b.line && a.bytes == b.bytes && std::strcmp(a.name, b.name) == 0;
}

// Releases every complete SIMD-group that waits. False: a part of one did not arrive.
bool release_simdgroups(bool& released) {
  for (unsigned first = 0; first < machine.threads; first += kSimdWidth) {
    const unsigned end = std::min(first + kSimdWidth, machine.threads);
    int waiting = -1;
    uint32_t live = 0;
    for (unsigned t = first; t < end; ++t) {
      if (machine.fibers[t].state == kAtSimd) waiting = t;
      if (machine.fibers[t].state != kDone) live |= 1u << (t - first);
    }
    if (waiting < 0) continue;
    const Fiber& example = machine.fibers[waiting];
    for (unsigned t = first; t < end; ++t) {
      const Fiber& fiber = machine.fibers[t];
      if (fiber.state == kDone || (fiber.state == kAtSimd && at_same_place(fiber, example)))
        continue;
      Fault& f = fault(kSimd, waiting);
      f.line = example.line, f.other_line = fiber.line;
      place(f.other, t);
      std::strncpy(f.text, example.name, sizeof f.text - 1);
      return false;
    }
    const unsigned simdgroup = first / kSimdWidth;
    machine.live[example.parity][simdgroup] = live;
    if (example.operation == kSimdgroupBarrier) ++machine.simd_epochs[simdgroup];
    for (unsigned t = first; t < end; ++t)
      if (machine.fibers[t].state == kAtSimd) machine.fibers[t].state = kReady;
    released = true;
  }
  return true;
}

// All threads that live wait at a barrier. False: not at the same one, or some have returned.
bool release_barrier(unsigned done) {
  const Fiber* example = nullptr;
  for (unsigned t = 0; t < machine.threads; ++t) {
    const Fiber& fiber = machine.fibers[t];
    if (fiber.state == kDone) continue;
    if (!example) example = &fiber;
    if (done || fiber.line != example->line) {
      Fault& f = fault(kBarrier, t);
      f.line = fiber.line, f.other_line = example->line, f.returned = done;
      place(f.other, example - machine.fibers);
      return false;
    }
  }
  ++machine.launch->barriers;
  ++machine.epoch;
  if (example->flags & 1) machine.device_epoch = machine.epoch;
  if (example->flags & 2) machine.threadgroup_epoch = machine.epoch;
  for (unsigned t = 0; t < machine.threads; ++t) machine.fibers[t].state = kReady;
  return true;
}

uint64_t random_below(uint64_t bound) {  // splitmix64
  uint64_t z = (machine.random += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return (z ^ (z >> 31)) % bound;
}

void arrange(std::vector<unsigned>& items) {
  if (machine.launch->order == 2)
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_below(i)]);
}

std::vector<unsigned> sequence(unsigned count) {
  std::vector<unsigned> items(count);
  for (unsigned i = 0; i < count; ++i)
    items[i] = machine.launch->order == 1 ? count - 1 - i : i;
  return items;
}

bool run_group() {
  machine.threads = machine.position.threads;
  machine.shared.clear();
  std::memset(machine.threadgroup_shadow.data(), 0,
              machine.threadgroup_shadow.size() * sizeof(Shadow));
  machine.group_epoch = machine.device_epoch = machine.threadgroup_epoch = ++machine.epoch;
  std::fill(std::begin(machine.simd_epochs), std::end(machine.simd_epochs), 0);
  for (unsigned t = 0; t < machine.threads; ++t) prepare(t);
  std::vector<unsigned> order = sequence(machine.threads);
  bool finished = false;
  while (!finished) {
    arrange(order);
    for (unsigned t : order)
      if (machine.fibers[t].state == kReady) {
        resume(t);
        if (machine.launch->fault.kind != kNone) return false;
      }
    bool released = false;
    if (!release_simdgroups(released)) return false;
    unsigned done = 0;
    for (unsigned t = 0; t < machine.threads; ++t) done += machine.fibers[t].state == kDone;
    finished = done == machine.threads;
    if (!finished && !released && !release_barrier(done)) return false;
  }
  uint64_t bytes = 0;
  for (const Region& region : machine.shared) {
    bytes += region.end - region.begin;
    machine.launch->threadgroup_read += region.read;
    machine.launch->threadgroup_written += region.written;
  }
  machine.launch->threadgroup_bytes = std::max(machine.launch->threadgroup_bytes, bytes);
  return true;
}

void run_grid() {
  Launch& launch = *machine.launch;
  const Uint3 grid = launch.grid;
  const Uint3 size = {std::min(launch.group.x, grid.x), std::min(launch.group.y, grid.y),
                      std::min(launch.group.z, grid.z)};  // as MLX dispatches
  const Uint3 groups = {(grid.x + size.x - 1) / size.x, (grid.y + size.y - 1) / size.y,
                        (grid.z + size.z - 1) / size.z};
  std::vector<unsigned> order = sequence(groups.x * groups.y * groups.z);
  arrange(order);
  for (unsigned g : order) {
    const Uint3 at = {g % groups.x, g / groups.x % groups.y, g / (groups.x * groups.y)};
    Position& p = machine.position;
    p.grid = grid, p.groups = groups, p.group = at, p.full_group_size = size;
    p.group_size = {std::min(size.x, grid.x - at.x * size.x),
                    std::min(size.y, grid.y - at.y * size.y),
                    std::min(size.z, grid.z - at.z * size.z)};
    p.threads = p.group_size.x * p.group_size.y * p.group_size.z;
    if (!run_group()) return;
    launch.threads += p.threads;
    ++launch.groups;
  }
}

int find_image(dl_phdr_info* info, size_t, void*) {
  const char* here = reinterpret_cast<const char*>(&machine);
  const char *begin = nullptr, *end = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const char* from = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    if (!begin || from < begin) begin = from;
    end = std::max(end, from + segment.p_memsz);
  }
  if (here < begin || here >= end) return 0;
  machine.image_begin = begin, machine.image_end = end;
  return 1;
}

// What the compiler says at the places that it checks, as libubsan reads it.

struct Type {
  uint16_t kind, info;  // of an integer, bit 0 of info: signed
  char name[1];         // and more, in quotes
};

struct Place {
  const char* file;
  uint32_t line, column;
};

struct IndexPlace : Place {
  const Type *array, *index;
};

struct DivisionPlace : Place {
  const Type* type;
};

struct AccessPlace : Place {
  const Type* type;
  uint8_t alignment, kind;  // kind 1: a write
};

std::string number(const Type& type, uintptr_t value) {
  return type.info & 1 ? std::to_string(intptr_t(value)) : std::to_string(value);
}

void report(const std::string& text, const void* pc) {
  Fault& f = fault(kUndefined, machine.running);
  std::strncpy(f.text, text.c_str(), sizeof f.text - 1);
  f.address = static_cast<const char*>(pc) - machine.image_begin;
}

size_t whole_pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

extern "C" {

// Not reentrant: the caller holds a lock.
__attribute__((visibility("default"))) void emulator_run(Launch* launch) {
  machine.launch = launch;
  machine.random = launch->seed;
  machine.epoch = 0;
  machine.buffers.clear();
  dl_iterate_phdr(find_image, nullptr);
  size_t total = 2 * kGap + kThreadgroupBytes + kMostThreads * kStackBytes;
  for (uint32_t i = 0; i < launch->count; ++i)
    total += kGap + whole_pages(launch->buffers[i].bytes);
  void* mapped = mmap(nullptr, total, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    launch->fault.kind = kNoMemory;
    return;
  }
  machine.stacks = static_cast<char*>(mapped);
  machine.threadgroup = machine.stacks + kMostThreads * kStackBytes + kGap;
  machine.threadgroup_shadow.assign(kThreadgroupBytes, Shadow{});
  char* next = machine.threadgroup + kThreadgroupBytes + kGap;
  std::vector<std::vector<Shadow>> shadows(launch->count);
  for (uint32_t i = 0; i < launch->count; ++i) {
    Buffer& buffer = launch->buffers[i];
    std::memcpy(next, buffer.data, buffer.bytes);
    shadows[i].assign(buffer.bytes, Shadow{});
    machine.buffers.push_back({next, next + buffer.bytes, shadows[i].data(), int(i), 0,
                               buffer.writable != 0, 0, 0});
    machine.pointers[i] = next + buffer.origin;
    next += whole_pages(buffer.bytes) + kGap;
  }
  run_grid();
  for (uint32_t i = 0; i < launch->count; ++i) {
    Buffer& buffer = launch->buffers[i];
    const Region& region = machine.buffers[i];
    if (buffer.writable) std::memcpy(buffer.data, region.begin, buffer.bytes);
    buffer.read = region.read, buffer.written = region.written;
    for (const Shadow& shadow : shadows[i]) {
      buffer.unique_read += shadow.reader.epoch != 0;
      buffer.unique_written += shadow.writer.epoch != 0;
    }
  }
  munmap(mapped, total);
}

void* emulator_threadgroup(int declaration, size_t bytes, int is_float, int line) {
  const char* next = machine.threadgroup;
  for (Region& region : machine.shared) {
    if (region.declaration == declaration) return const_cast<char*>(region.begin);
    next = region.end;
  }
  next = machine.threadgroup + (next - machine.threadgroup + 15) / 16 * 16;
  const size_t offset = next - machine.threadgroup;
  if (offset + bytes > kThreadgroupBytes) {
    Fault& f = fault(kThreadgroupMemory, machine.running);
    f.bytes = offset + bytes, f.line = line;
    stop();
  }
  char* block = machine.threadgroup + offset;
  std::memset(block, is_float ? 0xff : 0xa5, bytes);  // NaN, or a large odd number
  machine.shared.push_back({block, block + bytes, machine.threadgroup_shadow.data() + offset, -1,
                            declaration, true, 0, 0});
  return block;
}

void emulator_barrier(unsigned flags, int line) {
  Fiber& fiber = machine.fibers[machine.running];
  ++machine.launch->operations[kThreadgroupBarrier];
  fiber.state = kAtBarrier, fiber.line = line, fiber.flags = flags;
  suspend();
}

void emulator_simdgroup_barrier(int line) {
  uint32_t live;
  emulator_exchange(kSimdgroupBarrier, "simdgroup_barrier", "", 1, line, &live);
}

// Two sets of slots take turns: no lane can be two operations ahead of another.
const unsigned char* emulator_exchange(
    int operation, const char* name, const void* value, size_t bytes, int line, uint32_t* live) {
  const unsigned thread = machine.running, first = thread - thread % kSimdWidth;
  Fiber& fiber = machine.fibers[thread];
  const unsigned parity = fiber.parity;
  std::memcpy(machine.slots[parity][thread], value, bytes);
  ++machine.launch->operations[operation];
  fiber.state = kAtSimd, fiber.operation = operation, fiber.name = name;
  fiber.line = line, fiber.bytes = bytes;
  suspend();
  fiber.parity = 1 - parity;
  *live = machine.live[parity][first / kSimdWidth];
  return machine.slots[parity][first];
}

unsigned emulator_lane() { return machine.running % kSimdWidth; }

void emulator_count(int operation) { ++machine.launch->operations[operation]; }

void emulator_atomic(const void* address, size_t bytes, int reads, int writes) {
  access(address, bytes, writes != 0, true, __builtin_return_address(0));
  Region* region = containing(machine.buffers, static_cast<const char*>(address));
  if (region && reads && writes) region->read += bytes;
}

void emulator_vector_index(int index, int size) {
  report("out-of-bounds index " + std::to_string(index) + " of a vector of " +
             std::to_string(size) + " elements",
         __builtin_return_address(0));
  stop();
}

void emulator_past_the_end() {
  report("out-of-bounds access to an element just past the end of its private array",
         __builtin_return_address(0));
  stop();
}

void __ubsan_handle_out_of_bounds_abort(const IndexPlace* at, uintptr_t index) {
  report("out-of-bounds index " + number(*at->index, index) + " of an array " + at->array->name,
         __builtin_return_address(0));
  stop();
}

void __ubsan_handle_type_mismatch_v1_abort(const AccessPlace* at, uintptr_t) {
  report(std::string("out-of-bounds ") + (at->kind == 1 ? "write" : "read") + " of " +
             at->type->name + " beyond its private array or variable",
         __builtin_return_address(0));
  stop();
}

void __ubsan_handle_divrem_overflow_abort(
    const DivisionPlace* at, uintptr_t dividend, uintptr_t divisor) {
  report("undefined integer division or remainder: " + number(*at->type, dividend) + " by " +
             number(*at->type, divisor) + ", of type " + at->type->name,
         __builtin_return_address(0));
  stop();
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, size_t n) { access(p, n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { access(p, n, true, false, __builtin_return_address(0)); }
#define EMULATOR_HOOKS(n)                                                                         \
  void __tsan_read##n(void* p) { access(p, n, false, false, __builtin_return_address(0)); }       \
  void __tsan_write##n(void* p) { access(p, n, true, false, __builtin_return_address(0)); }       \
  void __tsan_unaligned_read##n(void* p) { access(p, n, false, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* p) { access(p, n, true, false, __builtin_return_address(0)); }
EMULATOR_HOOKS(1)
EMULATOR_HOOKS(2)
EMULATOR_HOOKS(4)
EMULATOR_HOOKS(8)
EMULATOR_HOOKS(16)
}
