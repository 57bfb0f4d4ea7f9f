#include "runtime/workers.h"

#include <pthread.h>

#include <chrono>
#include <thread>
#include <utility>

namespace cephkit {
namespace {

constexpr std::chrono::seconds idle_limit(10);

}  // namespace

void Workers::Submit(Job* job) {
    std::unique_lock<std::mutex> lock(mutex_);
    queue_.push_back(job);
    // An idle thread counts as such until it has woken, so several jobs may share one idle thread for a
    // moment.
    if (idle_ < queue_.size() && threads_ < max_threads_) {
        threads_++;
        try {
            std::thread([self = shared_from_this()] { self->Work(); }).detach();
        } catch (const std::system_error&) {
            threads_--;
            // With other threads the job waits its turn. With none, and that is before the first call ever,
            // it would wait for ever.
            if (threads_ == 0) {
                queue_.pop_back();
                throw;
            }
        }
    }
    // Woken while the lock is held, a thread would have to wait and be woken again, for the lock.
    lock.unlock();
    wanted_.notify_one();
}

std::deque<Job*> Workers::TakeQueued() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(queue_, {});
}

void Workers::Stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
}

void Workers::Work() {
    pthread_setname_np(pthread_self(), "cephkit");
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        idle_++;
        const bool woken =
            wanted_.wait_for(lock, idle_limit, [this] { return stopping_ || !queue_.empty(); });
        idle_--;
        if (!queue_.empty()) {
            Job* job = queue_.front();
            queue_.pop_front();
            lock.unlock();
            job->Run();
            lock.lock();
        } else if (stopping_ || (!woken && threads_ > 1)) {
            // The last one stays, so that a close never needs a new thread.
            break;
        }
    }
    threads_--;
}

}  // namespace cephkit
