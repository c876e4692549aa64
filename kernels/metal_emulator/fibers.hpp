// Switching between the fibers of a threadgroup: by hand on x86-64 and aarch64, else ucontext.
#pragma once
#include <algorithm>
#include <cstddef>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
#define EMULATOR_X86
#endif
#if defined(EMULATOR_X86) || (defined(__aarch64__) && !defined(EMULATOR_UCONTEXT))

struct Context {
  void* stack;
};

// Saves the registers that a callee must keep, then its stack pointer, and takes over the other's.
extern "C" void emulator_switch(void** from, void* to);
#if defined(EMULATOR_X86)
constexpr int kSavedWords = 6;
asm(R"(
.text
.p2align 4
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
constexpr int kSavedWords = 20;
asm(R"(
.text
.p2align 4
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch,%function
emulator_switch:
  sub sp,sp,#160
  stp x19,x20,[sp]
  stp x21,x22,[sp,#16]
  stp x23,x24,[sp,#32]
  stp x25,x26,[sp,#48]
  stp x27,x28,[sp,#64]
  stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96]
  stp d10,d11,[sp,#112]
  stp d12,d13,[sp,#128]
  stp d14,d15,[sp,#144]
  mov x9,sp
  str x9,[x0]
  mov sp,x1
  ldp x19,x20,[sp]
  ldp x21,x22,[sp,#16]
  ldp x23,x24,[sp,#32]
  ldp x25,x26,[sp,#48]
  ldp x27,x28,[sp,#64]
  ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96]
  ldp d10,d11,[sp,#112]
  ldp d12,d13,[sp,#128]
  ldp d14,d15,[sp,#144]
  add sp,sp,#160
  ret
)");
#endif

inline void switch_context(Context& from, Context& to) { emulator_switch(&from.stack, to.stack); }

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes - 64);
#if defined(EMULATOR_X86)
  *--top = nullptr;  // where a return address would be: the alignment is that after a call
  *--top = reinterpret_cast<void*>(entry);
  top -= kSavedWords;
  std::fill(top, top + kSavedWords, nullptr);
#else
  top -= kSavedWords;
  std::fill(top, top + kSavedWords, nullptr);
  top[11] = reinterpret_cast<void*>(entry);  // x30, the return address
#endif
  context.stack = top;
}

#else
#include <ucontext.h>

struct Context {
  ucontext_t saved;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = stack;
  context.saved.uc_stack.ss_size = bytes;
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, entry, 0);
}

#endif
