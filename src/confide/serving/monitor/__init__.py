"""The monitor: does the promise hold, has the traffic changed, does anything fail?"""
