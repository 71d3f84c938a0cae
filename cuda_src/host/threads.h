// The threads of one CUDA block: each has a stack of its own, and they wait for one another in barriers and shuffles.
//
// One thread runs until it waits or ends, then another that can go on. Which one that is must not matter to a correct
// kernel; the order can be chosen, so that a test sees whether it does.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <utility>
#if !defined(__x86_64__)
#define PORTABLE_STACKS
#endif
#ifdef PORTABLE_STACKS
#include <ucontext.h>
#endif

struct dim3 { unsigned x = 1, y = 1, z = 1; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

constexpr int MOST_THREADS = 1024;
constexpr size_t STACK = 1 << 16;  // bytes; a multiple of every page size in use
enum Order { ASCENDING, DESCENDING, RANDOM };

// Leave one stack for another. On x86-64 that takes 40 ns, and ten times as long where the system does it.
static void thread_begins();
#ifndef PORTABLE_STACKS
using Stack = void*;  // its top, where the registers lie that a function must leave as they were
void change_stack(Stack* from, Stack to) asm("emulator_change_stack");
asm(".text\nemulator_change_stack:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp, (%rdi)\n"
    "mov %rsi, %rsp\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
static void go(Stack& from, Stack& to) { change_stack(&from, to); }
static void prepare(Stack& stack, char* memory) {
    void** top = reinterpret_cast<void**>(memory + STACK) - 8;  // six registers, where to begin, where never to return
    memset(top, 0, 8 * sizeof(void*));
    top[6] = reinterpret_cast<void*>(thread_begins);
    stack = top;
}
#else
using Stack = ucontext_t;
static void go(Stack& from, Stack& to) { swapcontext(&from, &to); }
static void prepare(Stack& stack, char* memory) {
    getcontext(&stack);
    stack.uc_stack.ss_sp = memory, stack.uc_stack.ss_size = STACK, stack.uc_link = nullptr;
    makecontext(&stack, thread_begins, 0);
}
#endif

struct Thread {
    enum { READY, WAITING, ENDED } state;
    dim3 index;
    bool watched;
    Stack stack;
    const char* at;       // the function that it waits in,
    unsigned mask;        // the lanes of its warp that must come there, 0 for the whole block,
    int source;           // the thread whose value it wants,
    uint64_t given, got;  // its own value, and the one that it gets
};
static Thread threads[MOST_THREADS], *now;  // now: the one that runs
static int count, turn[MOST_THREADS];       // who comes first
static Stack scheduler;
static void (*kernel)(void**);
static void** arguments;
static char* message;
static size_t message_room;
static sigjmp_buf way_out;

// Ends the launch from wherever it is. The message begins with what is wrong and where.
[[noreturn]] __attribute__((format(printf, 3, 4))) static void fail(const char* what, const Thread& t,
                                                                    const char* format, ...) {
    const int written = snprintf(message, message_room, "%s: thread (%u, %u, %u) of block (%u, %u, %u) ", what,
                                 t.index.x, t.index.y, t.index.z, blockIdx.x, blockIdx.y, blockIdx.z);
    va_list values;
    va_start(values, format);
    vsnprintf(message + written, message_room - written, format, values);
    siglongjmp(way_out, 1);
}

static int number(const Thread& t) { return static_cast<int>(&t - threads); }

// The threads that must come to where one of them waits.
struct Party {
    int first = 0, last = count;
    unsigned mask;
    explicit Party(const Thread& t) : mask(t.mask) {
        if (mask) first = number(t) / warpSize * warpSize, last = first + warpSize < count ? first + warpSize : count;
    }
    bool has(int i) const { return i >= first && i < last && (!mask || mask >> (i - first) & 1); }
};
static bool wait_together(const Thread& a, const Thread& b) {
    return a.state == Thread::WAITING && b.state == Thread::WAITING && a.mask == b.mask && !strcmp(a.at, b.at);
}
// Lets a party go on if all are there, each with the value that it asked for: all bits set if nobody gives it.
static bool release(const Thread& t) {
    const Party party(t);
    for (int i = party.first; i < party.last; ++i)
        if (party.has(i) && !wait_together(t, threads[i])) return false;
    for (int i = party.first; i < party.last; ++i)
        if (party.has(i)) threads[i].got = party.has(threads[i].source) ? threads[threads[i].source].given : ~0ull;
    for (int i = party.first; i < party.last; ++i)
        if (party.has(i)) threads[i].state = Thread::READY;
    return true;
}
[[noreturn]] static void fail_deadlock(const Thread& t) {
    const Party party(t);
    int expected = 0, ended = 0, elsewhere = 0;
    const char* where = "";
    for (int i = party.first; i < party.last; ++i) {
        if (!party.has(i)) continue;
        ++expected;
        if (threads[i].state == Thread::ENDED) ++ended;
        else if (!wait_together(t, threads[i]))
            ++elsewhere, where = strcmp(threads[i].at, t.at) ? threads[i].at : "it with another mask";
    }
    char more[100] = "";
    if (elsewhere) snprintf(more, sizeof(more), " and %d wait in %s", elsewhere, where);
    fail("deadlock", t, "waits in %s: of the %d threads that must come there, %d have exited%s", t.at, expected, ended,
         more);
}

static void wait(const char* at, unsigned mask, int source = -1) {
    now->state = Thread::WAITING, now->at = at, now->mask = mask, now->source = source;
    go(now->stack, scheduler);
}
template <typename T> T shuffle(const char* at, unsigned mask, T value, int source_lane) {
    static_assert(sizeof(T) <= sizeof(now->given), "a shuffle moves 8 bytes at most");
    const int me = number(*now), lane = me % warpSize;
    if (!(mask >> lane & 1)) fail("undefined", *now, "is lane %d, not in the mask 0x%x of its %s", lane, mask, at);
    memcpy(&now->given, &value, sizeof(T));
    wait(at, mask, me - lane + source_lane);
    memcpy(&value, &now->got, sizeof(T));
    return value;
}

static void thread_begins() {
    kernel(arguments);
    now->state = Thread::ENDED;
    go(now->stack, scheduler);
}
static void shuffle_turns(unsigned& seed) {
    for (int i = count - 1; i > 0; --i) {
        seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
        std::swap(turn[i], turn[seed % (i + 1)]);
    }
}
// Thread i has the i-th of `stacks`, of which only every second one may be touched; seed must not be 0.
static void run_threads(char* stacks, Order order, unsigned& seed) {
    for (int i = 0; i < count; ++i) {
        threads[i].state = Thread::READY;
        prepare(threads[i].stack, stacks + (2 * i + 1) * STACK);
        turn[i] = order == DESCENDING ? count - 1 - i : i;
    }
    if (order == RANDOM) shuffle_turns(seed);
    for (int i = 0; i < count;) {
        Thread& t = threads[turn[i++]];
        if (t.state != Thread::READY) continue;
        now = &t, threadIdx = t.index;
        go(scheduler, t.stack);
        now = nullptr;
        if (t.state != Thread::WAITING || !release(t)) continue;
        i = 0;  // whose turn comes first goes on at once: a warp may run far ahead of the others
        if (order == RANDOM) shuffle_turns(seed);
    }
    for (int i = 0; i < count; ++i)
        if (threads[i].state == Thread::WAITING) fail_deadlock(threads[i]);
}

}  // namespace emulator
