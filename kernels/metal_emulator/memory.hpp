// Every access of a kernel to memory: looked up, counted, checked for bounds and races.
#pragma once
#include "machine.hpp"

namespace {

void place(uint32_t out[3], unsigned thread) {
  const Uint3 p = position_of(thread).in_grid;
  out[0] = p.x, out[1] = p.y, out[2] = p.z;
}

Fault& fault(FaultKind kind, unsigned thread) {
  Fault& f = machine.launch->fault;
  f.kind = kind;
  place(f.thread, thread);
  return f;
}

// From inside a fiber: the kernel never continues.
[[noreturn]] void stop() {
  for (;;) suspend();
}

bool ordered(const Access& before, uint32_t now) {
  const unsigned simdgroup = machine.running / kSimdWidth;
  if (before.epoch == 0 || before.several_groups) return before.epoch == 0;
  if (before.epoch < machine.group_epoch) return false;  // another threadgroup
  if (before.epoch < now || before.thread == machine.running) return true;
  return before.simdgroup == simdgroup && before.simd_epoch < machine.simd_epochs[simdgroup];
}

void remember(Access& access, uint32_t now, bool atomic) {
  const uint8_t simdgroup = machine.running / kSimdWidth;
  const bool same = access.epoch == now;
  access.several_groups |= access.epoch != 0 && access.epoch < machine.group_epoch;
  access.thread = same && access.thread != machine.running ? kSeveral : machine.running;
  access.simdgroup = same && access.simdgroup != simdgroup ? kSeveralSimdgroups : simdgroup;
  access.simd_epoch = machine.simd_epochs[simdgroup];
  access.atomic = atomic && (!same || access.atomic);
  access.epoch = now;
}

void report_race(const Region& region, size_t offset, size_t bytes, const Access& before,
                 bool writes, const void* pc) {
  Fault& f = fault(kRace, machine.running);
  f.buffer = region.buffer, f.offset = offset, f.bytes = bytes, f.writes = writes;
  f.address = static_cast<const char*>(pc) - machine.image_begin;
  f.returned = before.several_groups || before.epoch < machine.group_epoch;
  if (!f.returned && before.thread != kSeveral) place(f.other, before.thread);
  else f.other[0] = f.other[1] = f.other[2] = ~0u;
  stop();
}

void check(Region& region, size_t offset, size_t bytes, bool writes, bool atomic, const void* pc) {
  const uint32_t now = region.buffer < 0 ? machine.threadgroup_epoch : machine.device_epoch;
  for (size_t i = offset; i < offset + bytes; ++i) {
    Shadow& shadow = region.shadow[i];
    if (machine.launch->check_races) {
      if (!(atomic && shadow.writer.atomic) && !ordered(shadow.writer, now))
        report_race(region, offset, bytes, shadow.writer, writes, pc);
      if (writes && !(atomic && shadow.reader.atomic) && !ordered(shadow.reader, now))
        report_race(region, offset, bytes, shadow.reader, writes, pc);
    }
    remember(writes ? shadow.writer : shadow.reader, now, atomic);
  }
}

Region* containing(std::vector<Region>& regions, const char* address) {
  for (Region& region : regions)
    if (address >= region.begin && address < region.end) return &region;
  return nullptr;
}

// The region an access outside all of them most likely meant.
Region* nearest(const char* address) {
  Region* best = nullptr;
  size_t least = kGap;
  for (auto* regions : {&machine.buffers, &machine.shared})
    for (Region& region : *regions) {
      const size_t distance =
          address < region.begin ? region.begin - address : address - region.end;
      if (distance < least) least = distance, best = &region;
    }
  return best;
}

[[gnu::noinline]] void shared_access(
    const char* address, size_t bytes, bool writes, bool atomic, const void* pc) {
  if (address >= machine.image_begin && address < machine.image_end) return;
  Region* region = containing(machine.buffers, address);
  if (!region) region = containing(machine.shared, address);
  if (region && address + bytes <= region->end && (!writes || region->writable)) {
    auto& operations = machine.launch->operations;
    if (atomic) ++operations[kAtomic];
    else if (region->buffer < 0) ++operations[writes ? kThreadgroupStore : kThreadgroupLoad];
    else ++operations[writes ? kStore : kLoad];
    (writes ? region->written : region->read) += bytes;
    check(*region, address - region->begin, bytes, writes, atomic, pc);
    return;
  }
  const bool inside = region && address + bytes <= region->end;
  if (!region) region = nearest(address);
  Fault& f = fault(inside ? kReadOnly : region ? kBounds : kUnknownAddress, machine.running);
  f.buffer = region ? region->buffer : -1;
  f.offset = region ? address - region->begin : 0;
  f.bytes = bytes, f.writes = writes;
  f.address = static_cast<const char*>(pc) - machine.image_begin;
  stop();
}

inline void access(const void* pointer, size_t bytes, bool writes, bool atomic, const void* pc) {
  const char* address = static_cast<const char*>(pointer);
  if (size_t(address - machine.stacks) < kMostThreads * kStackBytes) return;  // of a thread
  shared_access(address, bytes, writes, atomic, pc);
}

}  // namespace
