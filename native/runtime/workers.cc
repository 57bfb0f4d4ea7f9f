#include "runtime/workers.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace cephkit {
namespace {

constexpr std::chrono::seconds idle_limit(10);

}  // namespace

void Workers::Submit(Job* job) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
        const auto seat = std::move(idle_.back());
        idle_.pop_back();
        seat->job = job;
        // Called while the lock is held, the thread would have to wait and be woken again, for the lock.
        lock.unlock();
        seat->called.notify_one();
        return;
    }
    queue_.push_back(job);
    if (threads_ == max_threads_) return;
    threads_++;
    try {
        std::thread([self = shared_from_this()] { self->Work(); }).detach();
    } catch (const std::system_error&) {
        threads_--;
        // With other threads the job waits its turn. With none, and that is before the first call ever, it
        // would wait for ever.
        if (threads_ == 0) {
            queue_.pop_back();
            throw;
        }
    }
}

std::deque<Job*> Workers::TakeQueued() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(queue_, {});
}

Workers::Load Workers::load() {
    std::lock_guard<std::mutex> lock(mutex_);
    return {threads_, threads_ - idle_.size(), queue_.size()};
}

void Workers::Stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (const auto& seat : idle_)
        seat->called.notify_one();
}

void Workers::Work() {
    pthread_setname_np(pthread_self(), "cephkit");
    const auto seat = std::make_shared<Seat>();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        if (!queue_.empty()) {
            seat->job = queue_.front();
            queue_.pop_front();
        } else if (!stopping_) {
            idle_.push_back(seat);
            seat->called.wait_for(lock, idle_limit, [&] { return stopping_ || seat->job != nullptr; });
        }
        if (Job* job = std::exchange(seat->job, nullptr)) {
            lock.unlock();
            job->Run();
            lock.lock();
            continue;
        }
        // Nobody has called it, so it still sits there.
        const auto own = std::find(idle_.begin(), idle_.end(), seat);
        if (own != idle_.end()) idle_.erase(own);
        // The last one stays, so that a close never needs a new thread.
        if (stopping_ || threads_ > 1) break;
    }
    threads_--;
}

}  // namespace cephkit
