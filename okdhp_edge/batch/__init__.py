"""Archives of videos and images to Parquet files of poses, on one machine or on a Ray cluster.

sources.py   what to process, and how it is recognized when it is met again
plan.py      a source to segments of equal work
worker.py    one segment to rows, in a process of its own
join.py      the segments of a source to one file, with whole ids
progress.py  frames done while workers are at a segment
driver.py    all of it: what is done is skipped, what fails is listed
"""
