"""From encoded examples to batches on their way to the devices.

    settings      what is read, in which order, and which views are made of it
    stream        the front of training: the part of the split, its order (epochs), groups
    host_views    then the host makes views or crops: ViewBatch, CropBatch
    device_crops  or it sends whole images, for the device to crop: ImageBatch
    batches       chooses between the two, and makes evaluation batches

groups, undecodable, seeds, batch_spec and service help both.
"""
